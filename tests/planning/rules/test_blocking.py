"""Tests of the findings about blocked sessions and the size of the table."""

from __future__ import annotations

import pytest

from migration_route.core.enums import Severity
from migration_route.core.values import Blocked, Forecast, TableLock, TableSize
from migration_route.planning.changes.types import PlanChanges
from migration_route.planning.findings import locking
from migration_route.planning.plan import Operation
from tests.factories import a_plan, a_step

WRITES = frozenset({Blocked.WRITES, Blocked.SCHEMA_CHANGES})
ALL = frozenset(Blocked)
NOBODY = frozenset({Blocked.SCHEMA_CHANGES})


def a_forecast(blocks=ALL, *, tables=("item",), scans=(), rewrites=()):
    """Return a forecast of a statement."""
    locks = tuple(TableLock(table=table, mode="a lock", blocks=blocks) for table in tables)
    return Forecast(locks=locks, scans=scans, rewrites=rewrites)


def told(*pairs, new=(), tables=()):
    """Return the findings on an operation with these statements and forecasts."""
    operation = Operation(
        description="an operation",
        opaque=False,
        sql=tuple(sql for sql, _ in pairs),
        forecasts=tuple(forecast for _, forecast in pairs),
    )
    plan = a_plan(a_step(operations=(operation,)), tables=tables)
    return list(locking.findings(PlanChanges(plan=plan, new_tables=frozenset(new))))


@pytest.mark.parametrize(
    ("sql", "forecast", "expected"),
    [
        ("ALTER TABLE item ADD a int", a_forecast(), []),
        (
            "ALTER TABLE item ALTER a TYPE bigint",
            a_forecast(rewrites=("item",)),
            ["rewrites_table"],
        ),
        (
            "CREATE INDEX i ON item (a)",
            a_forecast(WRITES, scans=("item",)),
            ["index_blocks_writes"],
        ),
        (
            "CREATE INDEX CONCURRENTLY i ON item (a)",
            a_forecast(NOBODY, scans=("item",)),
            [],
        ),
        (
            "ALTER TABLE item ALTER a SET NOT NULL",
            a_forecast(scans=("item",)),
            ["not_null_scans"],
        ),
        (
            "ALTER TABLE item ADD CONSTRAINT c CHECK (a > 1)",
            a_forecast(scans=("item",)),
            ["validates_under_lock"],
        ),
        ("ALTER TABLE item VALIDATE CONSTRAINT c", a_forecast(NOBODY, scans=("item",)), []),
        (
            "ALTER TABLE all_items ATTACH PARTITION item",
            a_forecast(scans=("item",)),
            ["scans_table"],
        ),
        (
            "ALTER TABLE orders ADD CONSTRAINT f FOREIGN KEY (i) REFERENCES item (id)",
            a_forecast(WRITES, tables=("item", "orders"), scans=("orders",)),
            ["locks_parent", "validates_under_lock"],
        ),
        (  # the server may read both, for as long as the one with the key requires
            'ALTER TABLE "orders" ADD FOREIGN KEY ("i") REFERENCES "public"."item" ("id")',
            a_forecast(WRITES, tables=("orders", "item"), scans=("item", "orders")),
            ["validates_under_lock", "locks_parent"],
        ),
        (  # a table of the plan has no rows and no other sessions
            "ALTER TABLE fresh ADD CONSTRAINT f FOREIGN KEY (i) REFERENCES item (id)",
            a_forecast(WRITES, tables=("item",), scans=("item",)),
            [],
        ),
        (
            "ALTER TABLE item ADD CONSTRAINT f FOREIGN KEY (i) REFERENCES item (id)",
            a_forecast(WRITES, tables=("item",), scans=("item",)),
            ["validates_under_lock"],
        ),
        (
            "ALTER TABLE orders ADD FOREIGN KEY (i) REFERENCES item (id) NOT VALID",
            a_forecast(WRITES, tables=("item", "orders")),
            [],
        ),
    ],
)
def test_only_work_on_a_whole_table_under_a_lock_is_told(sql, forecast, expected):
    assert [finding.code for finding in told((sql, forecast))] == expected


def test_what_the_plan_makes_is_nobodys_table_yet():
    index = ("CREATE INDEX i ON item (a)", a_forecast(WRITES, scans=("item",)))
    assert told(index, new=("item",)) == []


def test_one_operation_tells_the_same_once():
    index = ("CREATE INDEX i ON item (a)", a_forecast(WRITES, scans=("item",)))
    assert [finding.code for finding in told(index, index)] == ["index_blocks_writes"]


@pytest.mark.parametrize(
    ("rows", "size", "severity", "words"),
    [
        (120, 49_152, Severity.INFO, "item (120 rows, 49 kB)"),
        (12_000_000, 3_400_000_000, Severity.WARNING, "item (12,000,000 rows, 3 GB)"),
        (120, 60_000_000, Severity.WARNING, "item (120 rows, 60 MB)"),
        (None, 8_192, Severity.WARNING, "item (8 kB)"),
        (120, None, Severity.INFO, "item (120 rows)"),
        (None, None, Severity.WARNING, "item "),
    ],
)
def test_a_small_table_weighs_little(rows, size, severity, words):
    index = ("CREATE INDEX i ON item (a)", a_forecast(WRITES, scans=("item",)))
    sizes = (TableSize(table="item", rows=rows, bytes=size),)
    (found,) = told(index, tables=sizes)
    assert found.severity is severity
    assert words in found.message
    assert "blocks writes" in found.message
