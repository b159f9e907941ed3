"""Tests that the states around the operations of a migration cost no more than Django's
own."""

from __future__ import annotations

import pytest
from django.db.migrations import AddField
from django.db.migrations import state as django_state

from migration_route.planning import graph as graphs
from migration_route.planning import sql
from migration_route.planning.lazy_states import LazyProjectState
from migration_route.planning.plan import Details, PlanRequest
from migration_route.planning.planner import make_plan
from migration_route.planning.sql import backward_moves, forward_moves, state_before
from tests.factories import create_model

pytestmark = pytest.mark.usefixtures("database")

ALL = Details(budget=600.0)


@pytest.fixture
def rendered(monkeypatch):
    """Count the rendered models."""
    count = [0]
    render = django_state.ModelState.render

    def counted(self, apps):
        count[0] += 1
        return render(self, apps)

    monkeypatch.setattr(django_state.ModelState, "render", counted)
    return count


def altered(history, count: int) -> None:
    """Write one migration that alters one of ten models that many times."""
    history.write("0001_models", *(create_model(f"Made{n}") for n in range(10)))
    history.write(
        "0002_many",
        *(
            f"migrations.AddField('Made{n % 10}', 'f{n}', models.IntegerField(null=True))"
            for n in range(count)
        ),
    )


@pytest.mark.parametrize("count", [20, 80])
def test_each_operation_renders_the_models_that_it_changes(history, rendered, count):
    """Not every model of the project, before and after each operation."""
    altered(history, count)
    plan, migrations = make_plan(PlanRequest(database="default"))
    rendered[0] = 0
    steps, more = sql.with_sql(plan.steps, migrations, plan.database, ALL)
    assert more is None
    ours = next(step for step in steps if step.name == "0002_many")
    assert all(operation.sql for operation in ours.operations)
    # A model before and after each operation, and those of the other steps.
    assert rendered[0] <= 2 * count + 30
    state = state_before(graphs.read_graph("default"), migrations)
    assert isinstance(state, LazyProjectState)


def test_a_move_has_the_states_on_both_sides_of_its_operation(history):
    """Forwards and backwards, the field is on one side only."""
    altered(history, 12)
    graph = graphs.read_graph("default")
    migration = graph.loader.graph.nodes["testapp", "0002_many"]
    state = state_before(graph, [(migration, False)])
    names = [f"f{number}" for number in range(12)]
    for moves in (
        forward_moves(migration, state.clone()),
        reversed(backward_moves(migration, state.clone())),
    ):
        found = []
        for operation, app, start, end, backwards in moves:
            assert isinstance(operation, AddField)
            key = (app, operation.model_name_lower)
            before, after = (end, start) if backwards else (start, end)
            assert operation.name not in before.models[key].fields
            assert operation.name in after.models[key].fields
            model = after.apps.get_model(*key)
            assert model._meta.get_field(operation.name).column == operation.name
            found.append(operation.name)
        assert found == names


def test_a_state_that_is_not_read_to_its_end_is_complete_for_the_next_step(history):
    """A caller may skip the operations of a step."""
    altered(history, 3)
    history.write("0003_last", "migrations.RemoveField('Made0', 'f0')")
    plan, migrations = make_plan(PlanRequest(database="default"))
    steps, _ = sql.with_sql(
        plan.steps, migrations, plan.database, Details(after=len(plan.steps) - 1, budget=60)
    )
    assert [step.operations[0].sql is None for step in steps[:-1]] == [True] * (
        len(steps) - 1
    )
    assert steps[-1].operations[0].sql
