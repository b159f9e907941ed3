"""Tests of the text of a forecast."""

from __future__ import annotations

import msgspec
from django.utils.safestring import mark_safe

from migration_route.core.values import Blocked, Forecast, TableLock, TableSize
from migration_route.planning.plan import Operation, Plan
from migration_route.presentation.serializers import plan_answer
from migration_route.presentation.text.plans import operation_lines
from migration_route.presentation.text.runs import plan_lines
from tests.factories import a_plan, a_step

ITEM = TableLock(table="item", mode="AccessExclusiveLock", blocks=frozenset(Blocked))
OWNER = TableLock(
    table="owner",
    mode="ShareRowExclusiveLock",
    blocks=frozenset((Blocked.WRITES, Blocked.SCHEMA_CHANGES)),
)
LOOK = TableLock(
    table="bin", mode="AccessShareLock", blocks=frozenset((Blocked.SCHEMA_CHANGES,))
)
SIZES = (
    TableSize(table="item", rows=1_234_567, bytes=310_000_000),
    TableSize(table="owner", rows=1, bytes=None),
    TableSize(table="bin", rows=None, bytes=None),
)


def plan_of(*forecasts: Forecast | None) -> Plan:
    """Return a plan with an operation for each of these."""
    operations = tuple(
        Operation(
            description="Do it",
            opaque=forecast is None,
            sql=() if forecast is None else ("ALTER",),
            forecasts=None if forecast is None else (forecast,),
        )
        for forecast in forecasts
    )
    return a_plan(a_step(operations=operations), tables=SIZES)


def lines_of(forecast: Forecast) -> list[str]:
    """Return the lines about the plan."""
    plan = plan_answer(plan_of(forecast))
    return operation_lines(plan.steps[0].operations[0], plan.tables)


def test_a_line_tells_who_waits_and_what_it_costs():
    """With the size of what is rewritten or read, and not of what is only locked."""
    forecast = Forecast(
        locks=(ITEM, OWNER), rewrites=("item",), scans=("item", "owner", "bin")
    )
    assert lines_of(forecast) == [
        "locks item: blocks reads and writes · locks owner: blocks writes · "
        "rewrites item (1.2 M rows, 310 MB) · scans owner (1 row), bin"
    ]


def test_whoever_only_keeps_schema_changes_waiting_says_so():
    """Reading locks as well."""
    assert lines_of(Forecast(locks=(LOOK,))) == ["locks bin: blocks only schema changes"]


def test_an_algorithm_and_a_doubt_are_told():
    """In words."""
    (line,) = lines_of(Forecast(locks=(ITEM,), algorithm="copy", is_understood=False))
    assert line.startswith("not recognized, worst case assumed · locks item")
    assert line.endswith("table copy")


def test_a_statement_that_touches_nothing_has_no_line():
    """A new table, for example."""
    assert lines_of(Forecast(algorithm="instant")) == []


def test_json_has_a_forecast_for_each_statement_and_the_strongest_lock_of_the_step():
    """There is none for an opaque operation."""
    plan = plan_of(Forecast(locks=(OWNER, LOOK)), None, Forecast(locks=(ITEM,)))
    told = msgspec.to_builtins(plan_answer(plan))
    (step,) = told["steps"]
    assert step["lock"] == "AccessExclusiveLock"
    assert step["blocks"] == ["reads", "writes", "schema_changes"]
    assert step["operations"][1]["forecasts"] is None
    assert step["operations"][2]["forecasts"] == [
        {
            "locks": [
                {
                    "table": "item",
                    "mode": "AccessExclusiveLock",
                    "blocks": ["reads", "writes", "schema_changes"],
                }
            ],
            "rewrites": [],
            "scans": [],
            "algorithm": "",
            "is_understood": True,
        }
    ]
    assert told["tables"][0] == {"table": "item", "rows": 1_234_567, "bytes": 310_000_000}


def test_a_step_without_forecasts_has_no_lock():
    """The lock is unknown."""
    (step,) = plan_answer(a_plan(a_step())).steps
    assert (step.lock, step.blocks) == (None, [])


def test_the_terminal_has_the_lines_below_the_operation():
    lines = list(plan_lines(plan_answer(plan_of(Forecast(locks=(ITEM,))))))
    place = lines.index("    Do it")
    assert lines[place + 1] == "      locks item: blocks reads and writes"


def test_what_another_statement_does_and_more_is_told_once():
    """As with the statements of a table rebuild."""
    forecasts = (
        Forecast(locks=(LOOK,), scans=("bin",)),
        Forecast(locks=(LOOK,)),
        Forecast(locks=(LOOK,), scans=("bin",)),
        Forecast(locks=(ITEM,)),
    )
    operation = Operation(description="", opaque=False, sql=(), forecasts=forecasts)
    plan = plan_answer(a_plan(a_step(operations=(operation,))))
    assert operation_lines(plan.steps[0].operations[0], plan.tables) == [
        "locks bin: blocks only schema changes · scans bin",
        "locks item: blocks reads and writes",
    ]


def test_a_description_may_be_a_safe_string():
    """A migration's own operation can return one: the page and the API show its text."""
    operation = Operation(description=mark_safe("<b>"), opaque=True)
    plan = plan_answer(a_plan(a_step(operations=(operation,))))
    assert plan.steps[0].operations[0].description == "<b>"
    assert b'"description":"<b>"' in msgspec.json.encode(plan)
