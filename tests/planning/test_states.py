"""Tests that the states around the operations of a migration cost no more than Django's
own."""

from __future__ import annotations

import pytest
from django.db import connections, models
from django.db.migrations import AddField, CreateModel, Migration
from django.db.migrations import state as django_state
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState

from migration_route.planning import graph as graphs
from migration_route.planning import sql
from migration_route.planning.findings import environment
from migration_route.planning.impact import impact_of_plan
from migration_route.planning.lazy_states import LazyProjectState
from migration_route.planning.plan import Details, PlanRequest
from migration_route.planning.planner import make_plan
from migration_route.planning.sql import backward_moves, forward_moves, state_before
from migration_route.planning.states import state_after
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
    _, migrations = make_plan(PlanRequest(database="default"))
    state = state_before(graph, migrations)
    first, _ = migrations[0]
    assert first.name == "0001_models"
    first.mutate_state(state, preserve=False)
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


def test_a_plan_does_not_change_the_operations_that_it_reads(history):
    """Django's own states rename in place what a field refers to, in the field that belongs
    to an operation: the table would then be created for a reference to the new name."""
    history.write(
        "0001_models",
        create_model("A", "('code', models.CharField(max_length=9, unique=True))"),
        create_model(
            "B", "('a', models.ForeignKey('testapp.A', models.CASCADE, to_field='code'))"
        ),
    )
    history.write("0002_renamed", "migrations.RenameField('A', 'code', 'label')")
    for _ in range(2):
        plan, migrations = make_plan(PlanRequest(database="default"))
        environment._apps_with_changes.cache_clear()
        assert "testapp" in environment._apps_with_changes(object())
        steps, _ = sql.with_sql(plan.steps, migrations, plan.database, ALL)
        impact_of_plan(plan, migrations)
        for step in steps:
            assert all(
                operation.sql for operation in step.operations if step.app == "testapp"
            )
        (field,) = [
            field
            for migration, _ in migrations
            for operation in migration.operations
            if isinstance(operation, CreateModel) and operation.name == "B"
            for name, field in operation.fields
            if name == "a"
        ]
        assert list(vars(field)["to_fields"]) == ["code"]


@pytest.mark.parametrize("backwards", [False, True])
def test_a_plan_of_one_migration_knows_all_applied_ones(history, backwards):
    """Not only those that it depends on: a branch may refer to the key that it changes."""
    history.write("0001_model", create_model("A"))
    to = "models.ForeignKey('testapp.A', models.CASCADE)"
    history.write("0002_branch", create_model("B", f"('a', {to})"))
    key = "models.AutoField(primary_key=True)"
    history.write(
        "0003_key", f"migrations.AlterField('A', 'id', {key})", after="0001_model"
    )
    recorder = MigrationRecorder(connections["default"])
    for name in ("0001_model", "0002_branch", *(["0003_key"] if backwards else [])):
        recorder.record_applied("testapp", name)
    graph = graphs.read_graph("default")
    plan = [(graph.loader.graph.nodes["testapp", "0003_key"], backwards)]
    assert ("testapp", "b") in state_before(graph, plan).models
    found = [
        (migration, is_back, ("testapp", "b") in {*before.models} & {*after.models})
        for migration, moves in sql.plan_moves(graph, plan)
        for _, _, before, after, is_back in moves
    ]
    assert found == [(*plan[0], True)]


@pytest.fixture
def mutated(monkeypatch):
    """Record the migrations that are applied to a whole state."""
    found: list[str] = []
    mutate = Migration.mutate_state

    def recorded(self, *args, **words):
        found.append(self.name)
        return mutate(self, *args, **words)

    monkeypatch.setattr(Migration, "mutate_state", recorded)
    return found


def of_models(*names: str) -> list[Migration]:
    """Return migrations that create these models."""
    found: list[Migration] = []
    for name in names:
        create = CreateModel(name, [("id", models.AutoField(primary_key=True))])
        kind = type("Migration", (Migration,), {"operations": [create]})
        found.append(kind(name, "testapp"))
    return found


def test_the_state_after_the_same_migrations_is_computed_once(mutated):
    """Other operations, or other apps without migrations, have a state of their own."""
    first = of_models("A", "B")
    for _ in range(3):
        assert set(state_after(first, set()).models) == {("testapp", "a"), ("testapp", "b")}
    assert mutated == ["A", "B"]
    state_after(first, {"auth"})
    state_after(first[:1], set())
    state_after(of_models("A", "B"), set())
    assert mutated == ["A", "B", "A", "B", "A", "A", "B"]


def test_a_caller_changes_only_its_own_state():
    migrations = of_models("A")
    one, two = state_after(migrations, set()), state_after(migrations, set())
    size = models.IntegerField(null=True)
    one.add_field("testapp", "a", "size", size, preserve_default=False)
    one.rename_field("testapp", "a", "id", "key")
    one.remove_model("testapp", "a")
    for state in (two, state_after(migrations, set())):
        assert list(state.models["testapp", "a"].fields) == ["id"]
    assert one.apps is not two.apps


def test_few_states_are_kept(mutated):
    histories = [of_models(f"Made{number}") for number in range(5)]
    for history in (*histories, histories[0], histories[4]):
        state_after(history, set())
    assert mutated == [f"Made{number}" for number in (0, 1, 2, 3, 4, 0)]


def test_a_kept_state_is_not_used_while_states_are_replaced(mutated, monkeypatch):
    migrations = of_models("A")
    state_after(migrations, set())

    def patched(self, model_state):
        self.models[model_state.app_label, model_state.name_lower] = model_state

    monkeypatch.setattr(ProjectState, "add_model", patched)
    assert not isinstance(state_after(migrations, set()), LazyProjectState)
    assert mutated == ["A", "A"]


@pytest.mark.parametrize("preserve_default", [True, False])
def test_an_altered_field_is_that_of_django_without_a_search(monkeypatch, preserve_default):
    """No models are reloaded, so none are searched for references."""
    (migration,) = of_models("A")
    lazy = state_after([migration], set())
    django = migration.mutate_state(ProjectState())
    field = models.BigIntegerField(primary_key=True, default=1)
    words = {"preserve_default": preserve_default}
    django.alter_field("testapp", "a", "id", field, **words)
    monkeypatch.delattr(django_state, "field_is_referenced")
    lazy.alter_field("testapp", "a", "id", field, **words)

    found, expected = (s.models["testapp", "a"].fields["id"] for s in (lazy, django))
    assert found.deconstruct() == expected.deconstruct()
    assert found.has_default() is preserve_default
