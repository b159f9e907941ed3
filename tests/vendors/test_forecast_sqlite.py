"""Tests of forecasts on SQLite."""

from __future__ import annotations

import pytest
from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import CharField, IntegerField
from django.test.utils import isolate_apps

from migration_route.core.values import Blocked, Forecast
from migration_route.vendors.sqlite.forecast import SQLiteForecaster


@pytest.fixture
def file(tmp_path, monkeypatch, django_db_blocker):
    """Yield a connection to a file with two tables."""
    alias = "foretold"
    entry = {**connections.settings["default"], "NAME": str(tmp_path / "a.sqlite3")}
    entry["ENGINE"], entry["OPTIONS"] = "django.db.backends.sqlite3", {}
    monkeypatch.setitem(connections.settings, alias, entry)
    with django_db_blocker.unblock():
        connection = connections[alias]
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE shop_item (id integer PRIMARY KEY, name text)")
            cursor.execute("CREATE INDEX item_name ON shop_item (name)")
            cursor.execute("CREATE TABLE shop_owner (id integer PRIMARY KEY)")
            cursor.execute("INSERT INTO shop_item (name) VALUES ('a'), ('b')")
        yield connection
        connection.close()
    del connections[alias]


def forecasts_of(connection: BaseDatabaseWrapper, *sql: str) -> list[Forecast]:
    """Return the forecasts of statements in sequence."""
    forecaster = SQLiteForecaster(connection)
    return [forecaster.forecast_statement(statement) for statement in sql]


@isolate_apps("tests.testapp")
def test_the_remake_of_django_is_a_rebuild(file):
    """It is recognized by its statements; later statements concern the table as well."""

    class Item(models.Model):  # noqa: DJ008 - never displayed
        name = CharField(max_length=9)

        class Meta:
            app_label = "testapp"
            db_table = "shop_item"

    new = IntegerField(default=3)
    new.set_attributes_from_name("size")
    new.model = Item
    editor = file.schema_editor(collect_sql=True, atomic=False)
    editor.deferred_sql = []
    editor.add_field(Item, new)
    statements = [*editor.collected_sql, "CREATE INDEX x ON shop_item (name)"]
    forecasts = forecasts_of(file, *statements)
    assert "rebuild" in {forecast.algorithm for forecast in forecasts}
    assert {t for forecast in forecasts for t in forecast.rewrites} == {"shop_item"}
    assert forecasts[-1].scans == ("shop_item",)
    assert all(forecast.is_understood for forecast in forecasts)
    tables = {lock.table for forecast in forecasts for lock in forecast.locks}
    assert tables == {"shop_item"}


def test_readers_pass_while_a_log_is_written(file):
    """With a rollback journal they wait when the transaction ends."""
    sql = "ALTER TABLE shop_item ADD COLUMN size integer"
    ((lock,),) = [forecast.locks for forecast in forecasts_of(file, sql)]
    assert (lock.mode, lock.blocks) == ("EXCLUSIVE", frozenset(Blocked))
    with file.cursor() as cursor:
        cursor.execute("PRAGMA journal_mode = wal")
    ((lock,),) = [forecast.locks for forecast in forecasts_of(file, sql)]
    assert lock.mode == "RESERVED"
    assert Blocked.READS not in lock.blocks


@pytest.mark.parametrize(
    ("sql", "algorithm", "rewrites", "scans"),
    [
        ("ALTER TABLE shop_item ADD COLUMN size integer", "instant", (), ()),
        ("ALTER TABLE shop_item ADD COLUMN n int CHECK (n > 0)", "instant", (), ("x",)),
        ("ALTER TABLE shop_item RENAME COLUMN name TO title", "instant", (), ()),
        ("ALTER TABLE shop_item DROP COLUMN name", "", ("x",), ("x",)),
        ("CREATE UNIQUE INDEX i ON shop_item (name)", "", (), ("x",)),
        ("DROP INDEX item_name", "", (), ()),
        ("DROP TABLE shop_item", "", (), ()),
        ("UPDATE shop_item SET name = 'x'", "", (), ("x",)),
        ("INSERT INTO shop_item (name) VALUES ('x')", "", (), ()),
    ],
)
def test_a_statement_costs_what_the_manual_says(file, sql, algorithm, rewrites, scans):
    """Each statement locks the table, for which "x" stands."""
    (forecast,) = forecasts_of(file, sql)
    assert [lock.table for lock in forecast.locks] == ["shop_item"]
    assert forecast.algorithm == algorithm
    assert forecast.rewrites == tuple("shop_item" for _ in rewrites)
    assert forecast.scans == tuple("shop_item" for _ in scans)


def test_a_new_table_keeps_nobody_waiting_and_a_new_name_is_the_old_table(file):
    """The forecast follows the plan from statement to statement."""
    made, filled, moved, altered = forecasts_of(
        file,
        "CREATE TABLE shop_new (id integer)",
        "INSERT INTO shop_new SELECT id FROM shop_item",
        "ALTER TABLE shop_owner RENAME TO shop_keeper",
        "ALTER TABLE shop_keeper ADD COLUMN x integer",
    )
    assert made.locks == filled.locks == ()
    assert filled.scans == ("shop_item",)
    assert [lock.table for lock in moved.locks] == ["shop_owner"]
    assert [lock.table for lock in altered.locks] == ["shop_owner"]


def test_what_is_not_understood_is_the_worst(file):
    """For the tables that it names."""
    (forecast,) = forecasts_of(file, "REINDEX shop_item")
    assert not forecast.is_understood
    assert forecast.rewrites == ("shop_item",)
    assert not [lock for lock in forecast.locks if lock.table == "shop_owner"]


def test_sizes_are_counted(file):
    """The bytes only where SQLite was compiled to report them."""
    (size,) = SQLiteForecaster(file).sizes(["shop_item"])
    assert (size.table, size.rows) == ("shop_item", 2)
    with file.cursor() as cursor:
        cursor.execute("PRAGMA compile_options")
        tells = ("ENABLE_DBSTAT_VTAB",) in cursor.fetchall()
    # A page of the table, and one of its index.
    assert size.bytes == (2 * 4096 if tells else None)
