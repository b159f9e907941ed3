"""Tests of the names in a statement, and of the locks that it needs."""

from __future__ import annotations

import pytest

from migration_route.vendors.base import LockTimeoutClass
from migration_route.vendors.mysql.locks import MySQLContention
from migration_route.vendors.postgresql import contention
from migration_route.vendors.postgresql.contention import is_conflict, lock_request_for
from migration_route.vendors.sql_lexer import POSTGRESQL
from migration_route.vendors.sql_statements import code_of, names_after, names_in

T = ("shop_item",)
STRONGEST = contention.ACCESS_EXCLUSIVE


def test_names_come_as_the_database_keeps_them():
    """Quoted ones verbatim, others in lowercase, with their schema."""
    code = 'ALTER TABLE Public."Shop ""Item""" ADD `odd``one`'
    names = names_in(code)
    assert ("public", 'Shop "Item"') in names
    assert ("odd`one",) in names
    assert names_after("TABLE", code) == {("public", 'Shop "Item"')}


def test_comments_and_literals_are_no_code():
    """Names in them are ignored; a `DO` block is read, though."""
    sql = "-- drop table a;\nSELECT 'drop table b; x' /* c */; SELECT $x$ d; e $x$ ;"
    assert code_of(sql, POSTGRESQL) == ["SELECT", "SELECT"]
    assert "ALTER TABLE t" in code_of("DO $$ BEGIN ALTER TABLE t; END $$", POSTGRESQL)[0]


@pytest.mark.parametrize(
    ("sql", "mode"),
    [
        ('ALTER TABLE "shop_item" ADD COLUMN "sku" varchar(20) NOT NULL', STRONGEST),
        ("alter table shop_item validate constraint c", contention.SHARE_UPDATE),
        ('ALTER TABLE "shop_item" RENAME TO "x"', STRONGEST),
        ("CREATE INDEX i ON shop_item (name)", contention.SHARE),
        ("CREATE UNIQUE INDEX i ON shop_item (name)", contention.SHARE),
        ("DROP TABLE shop_item CASCADE", STRONGEST),
        ("TRUNCATE shop_item", STRONGEST),
        ("CREATE TRIGGER t AFTER INSERT ON shop_item EXECUTE f()", contention.SHARE_ROW),
        ("LOCK TABLE shop_item IN SHARE MODE", contention.SHARE),
        ("LOCK shop_item", STRONGEST),
        ("COMMENT ON TABLE shop_item IS 'x'", contention.SHARE_UPDATE),
        ("DO $$ BEGIN ALTER TABLE shop_item ADD x int; END $$", STRONGEST),
        ("-- why\nALTER TABLE shop_item ADD x int", STRONGEST),
        ("SELECT 1; ALTER TABLE shop_item ADD x int", STRONGEST),
    ],
)
def test_a_definition_wants_its_lock_and_has_a_limit(sql, mode):
    """From the manual, "Explicit Locking"."""
    request = lock_request_for(sql)
    assert request.limit is LockTimeoutClass.SHORT
    assert (T, mode) in request.names


def test_a_foreign_key_wants_less_of_both_tables():
    """`ADD CONSTRAINT … FOREIGN KEY` does not block readers; a new column does."""
    key = 'REFERENCES "shop_owner" ("id") DEFERRABLE INITIALLY DEFERRED'
    alone = lock_request_for(
        f'ALTER TABLE "shop_item" ADD CONSTRAINT "c" FOREIGN KEY ("owner_id") {key}'
    )
    owner = (("shop_owner",), contention.SHARE_ROW)
    assert {(T, contention.SHARE_ROW), owner} <= alone.names
    column = lock_request_for(f'ALTER TABLE "shop_item" ADD COLUMN "o" int {key}')
    assert {(T, STRONGEST), owner} <= column.names


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX CONCURRENTLY i ON shop_item (name)",
        "DROP INDEX CONCURRENTLY i",
        "REINDEX TABLE CONCURRENTLY shop_item",
    ],
)
def test_what_is_done_concurrently_has_no_limit_and_is_not_repeated(sql):
    """A timeout would leave an invalid index, and so does a deadlock."""
    request = lock_request_for(sql)
    assert (request.limit, request.may_repeat) == (LockTimeoutClass.NONE, False)


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1", "INSERT INTO shop_item VALUES ('alter table')", "UPDATE x SET y = 1; "],
)
def test_everything_else_has_no_limit(sql):
    """No session queues up behind it."""
    assert lock_request_for(sql).limit is LockTimeoutClass.NONE


def test_a_drop_reaches_the_parents():
    """The triggers of a foreign key are on both tables."""
    assert lock_request_for("DROP TABLE shop_item").reaches_parents
    assert lock_request_for("ALTER TABLE shop_item DROP COLUMN o").reaches_parents
    assert not lock_request_for("ALTER TABLE shop_item ADD x int").reaches_parents


def test_conflicts_are_those_of_the_manual():
    """Symmetric, and all as in table 13.2."""
    modes = contention._MODES
    for one in modes:
        for other in modes:
            assert is_conflict(one, other) == is_conflict(other, one)
    assert [sum(is_conflict(one, other) for other in modes) for one in modes] == [
        1, 2, 4, 5, 5, 6, 7, 8,
    ]  # fmt: skip


def test_a_definition_on_mysql_wants_the_whole_table():
    """Other statements have no limit from this package."""
    request = MySQLContention().lock_request("ALTER TABLE `shop_item` ADD `x` int")
    assert request.limit is LockTimeoutClass.SHORT
    assert (T, "EXCLUSIVE") in request.names
    assert (
        MySQLContention().lock_request("UPDATE shop_item SET x = 1").limit
        is LockTimeoutClass.NONE
    )
