"""Tests of the forecast of an alteration on MySQL, without a server."""

from __future__ import annotations

import pytest

from migration_route.vendors.mysql.catalog import ColumnInfo, ServerInfo, TableInfo
from migration_route.vendors.mysql.forecast import alteration_cost
from migration_route.vendors.sql_lexer import MYSQL
from migration_route.vendors.sql_statements import statements

NEW = ServerInfo(is_mariadb=False, version=(8, 4, 0))
OLD = ServerInfo(is_mariadb=False, version=(8, 0, 11))


def facts(*, is_innodb: bool = True, has_fulltext: bool = False) -> TableInfo:
    """Return a table."""
    return TableInfo(
        columns={
            "name": ColumnInfo(type="varchar(50)", is_nullable=False, bytes=200),
            "size": ColumnInfo(type="int", is_nullable=True),
        },
        is_innodb=is_innodb,
        has_fulltext=has_fulltext,
    )


@pytest.mark.parametrize(
    ("action", "new", "old"),
    [
        ("ADD COLUMN x int NULL", "instant", "inplace"),
        ("DROP COLUMN name", "instant", "inplace"),
        ("RENAME COLUMN name TO title", "instant", "inplace"),
        ("CHANGE name title varchar(50) NOT NULL", "instant", "inplace"),
        ("MODIFY name varchar(60) NOT NULL", "inplace", "inplace"),
        ("MODIFY name varchar(70) NOT NULL", "copy", "copy"),
        ("MODIFY name varchar(50) NULL", "inplace", "inplace"),
        ("MODIFY size bigint NULL", "copy", "copy"),
        ("ADD INDEX i (name)", "inplace", "inplace"),
        ("ADD CONSTRAINT c CHECK (size > 0)", "copy", "copy"),
        ("ALTER COLUMN name SET DEFAULT 'x'", "instant", "instant"),
    ],
)
def test_an_algorithm_is_that_of_the_manual(action: str, new: str, old: str) -> None:
    """MySQL 8.4, 17.12.1, and 8.0 for the release before it."""
    (words,) = statements(action, MYSQL)
    assert alteration_cost(words, facts(), NEW).algorithm == new
    (words,) = statements(action, MYSQL)
    assert alteration_cost(words, facts(), OLD).algorithm == old


def test_a_table_of_another_engine_is_copied() -> None:
    """Only InnoDB alters in place."""
    (words,) = statements("ADD INDEX i (name)", MYSQL)
    cost = alteration_cost(words, facts(is_innodb=False), NEW)
    assert (cost.algorithm, cost.lock) == ("copy", "SHARED")


def test_a_full_text_index_keeps_columns_from_being_added_at_once() -> None:
    """It has a hidden column."""
    (words,) = statements("ADD COLUMN x int NULL", MYSQL)
    assert alteration_cost(words, facts(has_fulltext=True), NEW).algorithm == "inplace"
