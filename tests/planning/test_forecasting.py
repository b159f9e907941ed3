"""Tests that the statements of a plan have forecasts from the current database."""

from __future__ import annotations

import msgspec
from django.db import connections

from migration_route.core.enums import Mode
from migration_route.core.values import Forecast
from migration_route.planning.plan import Plan, PlanRequest, Step
from migration_route.planning.sql import with_forecasts
from migration_route.services.plans import detailed_plan
from tests.factories import create_model, tables
from tests.planning.test_sql import told

ITEM = "testapp_book"


def foretold(*, mode: Mode = Mode.APPLY, budget: float = 30.0) -> tuple[Step, ...]:
    """Return the steps of a plan with their forecasts."""
    return with_forecasts(told(), "default", mode=mode, budget=budget)[0]


def forecasts_of(step: Step) -> list[Forecast]:
    """Return all forecasts of a step."""
    return [f for operation in step.operations for f in operation.forecasts or ()]


def test_each_statement_has_a_forecast(history):
    """One per statement; those on existing tables name them."""
    history.write("0001_a", create_model("A"))
    history.write(
        "0002_b", f"migrations.RunSQL('ALTER TABLE {ITEM} ADD COLUMN extra int NULL')"
    )
    first, second = foretold()
    for operation in (*first.operations, *second.operations):
        assert operation.forecasts is not None
        assert operation.sql is not None
        assert len(operation.forecasts) == len(operation.sql)
    assert {lock.table for f in forecasts_of(second) for lock in f.locks} == {ITEM}


def test_nobody_waits_for_a_table_that_the_plan_makes(history):
    """Also where a later step alters it."""
    history.write("0001_a", create_model("A"))
    history.write("0002_b", "migrations.AddField('A', 'x', models.IntegerField(null=True))")
    history.write("0003_c", "migrations.AlterField('A', 'x', models.TextField(default=''))")
    for step in foretold():
        assert forecasts_of(step)
        for forecast in forecasts_of(step):
            assert (forecast.locks, forecast.rewrites, forecast.scans) == ((), (), ())
            assert forecast.is_understood


def test_what_python_does_has_no_forecast(history):
    """It is not known in advance."""
    history.write("0001_a", "migrations.RunPython(migrations.RunPython.noop)")
    (step,) = foretold()
    assert step.operations[0].forecasts is None


def test_a_plan_that_only_records_has_none(history):
    """Its statements are not sent."""
    history.write("0001_a", create_model("A"))
    (step,) = foretold(mode=Mode.FAKE)
    assert all(operation.forecasts is None for operation in step.operations)


def test_beyond_the_budget_the_steps_stay_and_the_forecasts_are_missing(history):
    """A plan of hundreds of steps is returned in time."""
    history.write("0001_a", create_model("A"))
    history.write("0002_b", create_model("B"))
    steps = foretold(budget=-1.0)
    assert [step.name for step in steps] == ["0001_a", "0002_b"]
    assert all(o.forecasts is None for step in steps for o in step.operations)


def test_a_plan_tells_the_sizes_of_the_tables_that_it_touches(history):
    """And changes nothing in them."""
    history.write(
        "0001_a", f"migrations.RunSQL('ALTER TABLE {ITEM} ADD COLUMN extra int NULL')"
    )
    before = tables()
    plan = detailed_plan(PlanRequest(targets=("testapp",)))
    assert [size.table for size in plan.tables] == [ITEM]
    with connections["default"].cursor() as cursor:
        columns = connections["default"].introspection.get_table_description(cursor, ITEM)
    assert "extra" not in {column.name for column in columns}
    assert tables() == before


def test_a_plan_with_forecasts_comes_whole_out_of_another_process(history):
    """The other process writes it as JSON."""
    history.write(
        "0001_a", f"migrations.RunSQL('ALTER TABLE {ITEM} ADD COLUMN extra int NULL')"
    )
    plan = detailed_plan(PlanRequest(targets=("testapp",)))
    assert forecasts_of(plan.steps[0])
    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan
