"""Tests of forecasts on PostgreSQL, in addition to those that are executed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from migration_route.core.values import Blocked, Forecast
from migration_route.vendors.postgresql import contention
from migration_route.vendors.postgresql.contention import blocked_by
from migration_route.vendors.postgresql.forecast import PostgreSQLForecaster
from migration_route.vendors.postgresql.forecast.alter_table import is_rewritten
from tests.forecasts.database import a_database
from tests.harness import databases

STRONGEST = contention.ACCESS_EXCLUSIVE
TABLES = (
    "CREATE TABLE owner (id int PRIMARY KEY, name varchar(20))",
    "CREATE TABLE item (id int PRIMARY KEY, owner_id int REFERENCES owner, name text)",
    'CREATE TABLE "Odd ""Name" (id int)',
    "CREATE SCHEMA apart",
    "CREATE TABLE apart.box (id int)",
    "CREATE TABLE log (at int) PARTITION BY RANGE (at)",
    "CREATE TABLE log_one PARTITION OF log FOR VALUES FROM (1) TO (2)",
    "CREATE VIEW seen AS SELECT * FROM item",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1'",
    "INSERT INTO owner VALUES (1, 'ada'), (2, 'bob')",
    "ANALYZE",
)


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, django_db_blocker: Any
) -> Iterator[Any]:
    """Yield a connection to a database with these tables, which no test changes."""
    if reason := databases.missing().get("postgres"):
        pytest.skip(reason)
    with (
        django_db_blocker.unblock(),
        a_database(tmp_path_factory.mktemp("foretold")) as alias,
    ):
        with connections[alias].cursor() as cursor:
            for statement in TABLES:
                cursor.execute(statement)
        yield connections[alias]


def forecasts_of(connection: Any, *sql: str) -> list[Forecast]:
    """Return the forecasts of statements in sequence."""
    forecaster = PostgreSQLForecaster(connection)
    return [forecaster.forecast_statement(statement) for statement in sql]


def modes(forecast: Forecast) -> dict[str, str]:
    """Return the lock on each table."""
    return {lock.table: lock.mode for lock in forecast.locks}


def test_who_waits_follows_from_the_table_of_conflicts():
    """As in the manual, 13.3."""
    assert blocked_by(STRONGEST) == frozenset(Blocked)
    assert Blocked.READS not in blocked_by(contention.EXCLUSIVE)
    assert Blocked.WRITES in blocked_by(contention.SHARE)
    assert blocked_by(contention.SHARE_UPDATE) == {Blocked.SCHEMA_CHANGES}


def test_two_modes_of_one_table_become_one_that_keeps_out_as_many():
    """Neither of these two modes includes the other one."""
    assert (
        contention.strongest(contention.SHARE, contention.SHARE_UPDATE)
        == contention.SHARE_ROW
    )
    assert contention.strongest(contention.SHARE, STRONGEST) == STRONGEST


@pytest.mark.parametrize(
    ("old", "new", "rewritten"),
    [
        ("character varying(20)", "varchar(40)", False),
        ("character varying(20)", "varchar(20)", False),
        ("character varying(20)", "varchar(19)", True),
        ("character varying(20)", "varchar", False),
        ("character varying", "varchar(9)", True),
        ("numeric(8,2)", "numeric(9, 2)", False),
        ("numeric(8,2)", "numeric(9, 3)", True),
        ("numeric(8,2)", "numeric", False),
        ("timestamp(3) with time zone", "timestamptz(6)", False),
        ("timestamp with time zone", "timestamp", True),
        ("integer", "int4", False),
        ("integer", "bigint", True),
        ("character(3)", "character(4)", True),
        ("integer[]", "bigint[]", True),
    ],
)
def test_a_type_that_only_grows_is_not_stored_anew(old, new, rewritten):
    """As in the manual; in doubt it is rewritten."""
    assert is_rewritten(old, new, is_same_inside=lambda *_: False) is rewritten


def test_the_plan_is_followed_from_statement_to_statement(server):
    """An added column, a validated check, a new name."""
    *_, checked, proven, moved, again = forecasts_of(
        server,
        "ALTER TABLE item ADD COLUMN size varchar(5)",
        "ALTER TABLE item ADD CONSTRAINT c CHECK (size IS NOT NULL) NOT VALID",
        "ALTER TABLE item VALIDATE CONSTRAINT c",
        "ALTER TABLE item ALTER size SET NOT NULL",
        "ALTER TABLE item RENAME TO thing",
        "ALTER TABLE thing ALTER size TYPE varchar(9)",
    )
    assert checked.scans == ("item",)
    assert proven.scans == ()
    assert modes(moved) == modes(again) == {"item": STRONGEST}
    assert again.rewrites == ()


def test_a_check_that_went_away_proves_nothing(server):
    """Then the table is read again."""
    *_, forecast = forecasts_of(
        server,
        "ALTER TABLE item ADD CONSTRAINT c CHECK (name IS NOT NULL)",
        "ALTER TABLE item DROP CONSTRAINT c",
        "ALTER TABLE item ALTER name SET NOT NULL",
    )
    assert forecast.scans == ("item",)


def test_a_foreign_key_of_a_new_table_reads_its_parent_only_if_there_may_be_rows(server):
    """A new table has no rows unless something inserts them."""
    create, key = (
        "CREATE TABLE fresh (id int, owner_id int)",
        "ALTER TABLE fresh ADD CONSTRAINT k FOREIGN KEY (owner_id) REFERENCES owner (id)",
    )
    _, empty = forecasts_of(server, create, key)
    assert (modes(empty), empty.scans) == ({"owner": contention.SHARE_ROW}, ())
    *_, filled = forecasts_of(server, create, "INSERT INTO fresh VALUES (1, 1)", key)
    assert filled.scans == ("owner",)
    forecaster = PostgreSQLForecaster(server)
    forecaster.forecast_statement(create)
    forecaster.note_unknown_statements()
    assert forecaster.forecast_statement(key).scans == ("owner",)


def test_partitions_are_locked_along_with_their_table(server):
    """They are also read and written with it."""
    (forecast,) = forecasts_of(server, "ALTER TABLE log ADD n int DEFAULT mine()")
    assert modes(forecast) == {"log": STRONGEST, "log_one": STRONGEST}
    assert set(forecast.rewrites) == {"log", "log_one"}


def test_names_are_those_of_the_search_path(server):
    """With the schema where that is not on it, and as written in the catalog."""
    odd, apart, none = forecasts_of(
        server,
        'ALTER TABLE "Odd ""Name" ADD x int',
        "ALTER TABLE apart.box ADD x int",
        "ALTER TABLE box ADD x int",
    )
    assert [*modes(odd), *modes(apart), *modes(none)] == ['Odd "Name', "apart.box"]


@pytest.mark.parametrize(
    "sql",
    [
        "FROBNICATE item",
        "SELECT mine() FROM item",
        "SELECT * FROM seen, item",
        "ALTER TABLE item FROBNICATE",
        "WITH x AS (DELETE FROM item RETURNING *) SELECT 1",
        "DROP FUNCTION mine CASCADE; SELECT 1 FROM item",
        "DROP TYPE item CASCADE",
    ],
)
def test_what_is_not_understood_is_said_and_the_worst_is_foretold(server, sql):
    """For the tables that it names."""
    (forecast,) = forecasts_of(server, sql)
    assert not forecast.is_understood
    if "DROP FUNCTION" not in sql:
        assert modes(forecast)["item"] == STRONGEST
        assert forecast.rewrites == ("item",)


def test_sizes_do_not_wait_for_a_lock(server):
    """While a session holds the lock, the size is that of the last VACUUM or ANALYZE."""
    forecaster = PostgreSQLForecaster(server)
    (free,) = forecaster.sizes(["owner"])
    assert free.bytes is not None
    assert (free.rows, free.bytes > 0) == (2, True)
    other = server.copy()
    found: list[Any] = []
    with other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("LOCK TABLE owner")
        found.extend(forecaster.sizes(["owner"]))
        cursor.execute("ROLLBACK")
    other.close()
    assert found[0].rows == 2
    assert found[0].bytes is not None
