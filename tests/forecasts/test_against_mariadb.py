"""Tests that MariaDB accepts each forecast algorithm and lock.

It rejects an `ALGORITHM=` or `LOCK=` that is too optimistic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest
from django.db import DatabaseError, connections

from migration_route.core.values import Forecast
from migration_route.vendors import vendor_of
from tests.harness import databases

pytestmark = pytest.mark.slow

ALIAS = "foretold"
TABLES = (
    "CREATE TABLE owner (id bigint AUTO_INCREMENT PRIMARY KEY, name varchar(50) NOT NULL)",
    "CREATE TABLE item (id bigint AUTO_INCREMENT PRIMARY KEY, owner_id bigint NOT NULL, "
    "name varchar(50) NOT NULL, sku varchar(20) NOT NULL, note longtext NULL, "
    "quantity int NOT NULL, made datetime(6) NULL, price numeric(8, 2) NOT NULL, "
    "wide varchar(200) NULL, twice int AS (quantity * 2) STORED, "
    "half int AS (quantity / 2) VIRTUAL, "
    "UNIQUE KEY item_sku (sku), KEY item_made (made), "
    "CONSTRAINT item_counts CHECK (quantity >= 0), "
    "CONSTRAINT item_owner FOREIGN KEY (owner_id) REFERENCES owner (id))",
    "INSERT INTO owner (name) VALUES ('ada'), ('bob')",
    "INSERT INTO item (owner_id, name, sku, note, quantity, made, price) VALUES "
    "(1, 'a', 'a', 'a', 1, now(), 1), (2, 'b', 'b', 'b', 2, now(), 2)",
)
ACTIONS = [
    ("ADD COLUMN x int NULL", "instant"),
    ("ADD COLUMN x int DEFAULT 3 NOT NULL", "instant"),
    ("ADD COLUMN x varchar(9) DEFAULT 'it''s' NOT NULL", "instant"),
    ("ADD COLUMN x datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL", "copy"),
    ("ADD COLUMN x varchar(36) DEFAULT (uuid()) NOT NULL", "copy"),
    ("ADD COLUMN x int NULL UNIQUE", "inplace"),
    ("ADD COLUMN x int AS (quantity + 1) STORED", "copy"),
    ("ADD COLUMN x int GENERATED ALWAYS AS (quantity + 1) VIRTUAL", "instant"),
    ("ADD COLUMN x int UNSIGNED NULL CHECK (x >= 0)", "copy"),
    (
        "ADD COLUMN x bigint NULL, ADD CONSTRAINT k FOREIGN KEY (x) REFERENCES owner(id)",
        "copy",
    ),
    ("ALTER COLUMN name SET DEFAULT 'x'", "instant"),
    ("ALTER COLUMN name DROP DEFAULT", "instant"),
    ("DROP COLUMN note", "instant"),
    ("DROP COLUMN made", "inplace"),
    ("DROP COLUMN half", "instant"),
    ("DROP COLUMN twice", "inplace"),
    ("DROP FOREIGN KEY item_owner", "inplace"),
    ("MODIFY name varchar(50) NULL", "inplace"),
    ("MODIFY note longtext NOT NULL", "copy"),
    ("MODIFY made datetime(6) NOT NULL", "copy"),
    ("MODIFY name varchar(60) NOT NULL", "instant"),
    ("MODIFY name varchar(80) NOT NULL", "copy"),
    ("MODIFY wide varchar(300) NULL", "instant"),
    ("MODIFY name varchar(30) NOT NULL", "copy"),
    ("MODIFY name longtext NOT NULL", "copy"),
    ("MODIFY quantity bigint NOT NULL", "copy"),
    ("MODIFY quantity integer UNSIGNED NOT NULL", "copy"),
    ("MODIFY price numeric(10, 2) NOT NULL", "copy"),
    ("MODIFY name varchar(50) COLLATE utf8mb4_bin NOT NULL", "copy"),
    ("MODIFY name varchar(50) NOT NULL", "instant"),
    ("CHANGE name title varchar(50) NOT NULL", "instant"),
    ("RENAME COLUMN name TO title", "instant"),
    ("RENAME INDEX item_made TO item_when", "inplace"),
    ("ADD CONSTRAINT x UNIQUE (name)", "inplace"),
    ("ADD INDEX x (name)", "inplace"),
    ("ADD FULLTEXT INDEX x (name)", "inplace"),
    ("ADD CONSTRAINT x CHECK (quantity < 9)", "copy"),
    ("DROP CONSTRAINT item_counts", "inplace"),
    ("DROP INDEX item_made", "inplace"),
    ("ADD CONSTRAINT x FOREIGN KEY (id) REFERENCES owner (id)", "copy"),
    ("DROP PRIMARY KEY, MODIFY id bigint NOT NULL", "copy"),
    ("COMMENT 'things'", "inplace"),
    ("ENGINE = InnoDB", "copy"),
    ("FORCE", "inplace"),
    ("CONVERT TO CHARACTER SET utf8mb4", "copy"),
]

Foretell = Callable[[str], Forecast]


@pytest.fixture
def server(tmp_path: Path, django_db_blocker: Any) -> Iterator[Any]:
    """Yield a connection to a database with these tables."""
    if reason := databases.missing().get("mariadb"):
        pytest.skip(reason)
    pymysql.install_as_MySQLdb()
    made = databases.create("mariadb", tmp_path)
    template = connections.settings["default"]
    options = {"init_command": "SET sql_mode = 'STRICT_TRANS_TABLES'"}
    connections.settings[ALIAS] = {**template, **made.settings(), "OPTIONS": options}
    try:
        with django_db_blocker.unblock():
            connection = connections[ALIAS]
            with connection.cursor() as cursor:
                for statement in TABLES:
                    cursor.execute(statement)
            yield connection
            connection.close()
    finally:
        del connections[ALIAS]
        del connections.settings[ALIAS]
        made.drop()


def forecasts_of(connection: Any, sql: str) -> Forecast:
    return vendor_of(ALIAS).forecaster(connection).forecast_statement(sql)


@pytest.mark.parametrize(
    ("action", "algorithm"), ACTIONS, ids=[action for action, _ in ACTIONS]
)
def test_the_server_takes_the_algorithm_and_the_lock_that_were_foretold(
    server: Any, action: str, algorithm: str
) -> None:
    """The forecast equals the listed algorithm, so that it cannot drift to a more
    pessimistic one."""
    forecast = forecasts_of(server, f"ALTER TABLE item {action}")
    assert forecast.is_understood
    assert forecast.algorithm == algorithm
    (lock,) = [lock for lock in forecast.locks if lock.table == "item"]
    words = f"ALGORITHM={algorithm.upper()}, LOCK={lock.mode}"
    if algorithm == "instant":
        words = "ALGORITHM=INSTANT"  # allows no other LOCK clause than NONE
    with server.cursor() as cursor:
        cursor.execute(f"ALTER TABLE item {action}, {words}")


@pytest.mark.parametrize(
    "action",
    [action for action, algorithm in ACTIONS if algorithm == "copy"],
)
def test_a_copy_is_foretold_where_the_server_does_no_better(
    server: Any, action: str
) -> None:
    """`STRONGER` lists what the server does in place although the forecast is a copy."""
    with server.cursor() as cursor:
        try:
            cursor.execute(f"ALTER TABLE item {action}, ALGORITHM=INPLACE")
        except DatabaseError:
            return
    assert action in STRONGER


# Mostly because in place is not always possible: the forecast does not look into an
# expression default, a constraint, a character set or a strict mode.
STRONGER = {
    "ADD COLUMN x datetime(6) DEFAULT (CURRENT_TIMESTAMP(6)) NOT NULL",
    "ADD COLUMN x int UNSIGNED NULL CHECK (x >= 0)",
    "MODIFY made datetime(6) NOT NULL",
    "MODIFY name varchar(50) COLLATE utf8mb4_bin NOT NULL",
    "DROP PRIMARY KEY, MODIFY id bigint NOT NULL",
    "ENGINE = InnoDB",
    "CONVERT TO CHARACTER SET utf8mb4",
}


def test_what_the_plan_has_changed_is_not_taken_from_the_catalog(server: Any) -> None:
    """From 50 to 60 would be instant, but the plan has already changed 50."""
    forecaster = vendor_of(ALIAS).forecaster(server)
    forecaster.forecast_statement("ALTER TABLE item MODIFY name varchar(90) NOT NULL")
    forecast = forecaster.forecast_statement(
        "ALTER TABLE item MODIFY name varchar(60) NOT NULL"
    )
    assert forecast.algorithm == "copy"


def test_nobody_waits_for_a_table_that_the_plan_makes_but_its_parents(server: Any) -> None:
    """A table that the plan renames is reported by its old name."""
    forecaster = vendor_of(ALIAS).forecaster(server)
    made = forecaster.forecast_statement(
        "CREATE TABLE box (id bigint PRIMARY KEY, o bigint)"
    )
    key = forecaster.forecast_statement(
        "ALTER TABLE box ADD CONSTRAINT k FOREIGN KEY (o) REFERENCES owner (id)"
    )
    forecaster.forecast_statement("RENAME TABLE item TO thing")
    moved = forecaster.forecast_statement("ALTER TABLE thing ADD COLUMN x int NULL")
    assert made.locks == ()
    assert [lock.table for lock in key.locks] == ["owner"]
    assert [lock.table for lock in moved.locks] == ["item"]


def test_what_is_not_understood_is_a_copy_that_keeps_everybody_out(server: Any) -> None:
    """The forecast locks the tables that the statement names."""
    for sql in ("FROBNICATE item", "ALTER TABLE item FROBNICATE"):
        forecast = forecasts_of(server, sql)
        assert not forecast.is_understood
        assert [(lock.table, lock.mode) for lock in forecast.locks] == [
            ("item", "EXCLUSIVE")
        ]


def test_sizes_are_those_of_the_server(server: Any) -> None:
    """The sizes are estimates, and include the indexes."""
    (size,) = vendor_of(ALIAS).forecaster(server).sizes(["item"])
    assert size.table == "item"
    assert size.rows is not None
    assert size.bytes is not None
    assert size.bytes > 0
