"""Tests of what a state that renders on demand renders, shares and copies."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections, models
from django.db.migrations import (
    AddField,
    AlterField,
    CreateModel,
    DeleteModel,
    Migration,
    RenameField,
    RunPython,
    SeparateDatabaseAndState,
)
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ModelState, ProjectState

from migration_route.planning import states
from migration_route.planning.lazy_states import LazyProjectState
from tests.planning.parity import APP, Steps, create, foreign, migrations_of, text

pytestmark = pytest.mark.usefixtures("database")


def test_a_child_may_be_removed_after_its_base():
    def steps() -> Steps:
        return [
            [
                create("A", ("name", text())),
                CreateModel(
                    "B",
                    [("size", models.IntegerField(primary_key=True))],
                    options={"managed": True},
                    bases=(f"{APP}.a",),
                ),
            ],
        ]

    lazy = LazyProjectState()
    (migration,) = migrations_of(steps())
    migration.mutate_state(lazy, preserve=False)
    lazy.remove_model(APP, "a")
    child = lazy.apps.get_model(APP, "b")
    assert [base.__name__ for base in child.__bases__] == ["A"]
    with pytest.raises(LookupError):
        lazy.apps.get_model(APP, "a")
    assert [model.__name__ for model in lazy.apps.get_models()] == ["B"]


def test_a_run_says_that_it_uses_the_states_of_django(monkeypatch: pytest.MonkeyPatch):
    def clone(self: ProjectState) -> ProjectState:
        return self

    monkeypatch.setattr(ProjectState, "clone", clone)
    executor: Any = MigrationExecutor(connections["default"])
    lines: list[str] = []
    with states.executors_render_on_demand(lines.append):
        for _ in range(2):
            assert type(executor._create_project_state()) is ProjectState
    (line,) = lines
    assert "Another package replaces Django's project states" in line


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the models that are rendered."""
    names: list[str] = []
    render = ModelState.render

    def counted(self: ModelState, apps: Any) -> Any:
        names.append(self.name)
        return render(self, apps)

    monkeypatch.setattr(ModelState, "render", counted)
    return names


@pytest.fixture
def many() -> LazyProjectState:
    """Return a state of twenty models, each of which refers to the one before it."""
    state = LazyProjectState()
    operations = [create("M0")]
    operations += [create(f"M{n}", ("m", foreign(f"M{n - 1}"))) for n in range(1, 20)]
    for operation in operations:
        operation.state_forwards(APP, state)
    return state


def test_only_what_is_asked_for_is_rendered(many: LazyProjectState, rendered: list[str]):
    many.apps.get_model(APP, "m9")
    assert sorted(rendered) == ["M8", "M9"]


def test_a_clone_shares_what_is_rendered(many: LazyProjectState, rendered: list[str]):
    many.apps.get_model(APP, "m9")
    assert many.clone().apps is many.apps
    assert many.clone().clone().apps.get_model(APP, "m9") is many.apps.get_model(APP, "m9")
    assert len(rendered) == 2


def test_reading_a_model_state_renders_nothing_again(many: LazyProjectState):
    apps = many.apps
    assert many.models[APP, "m3"].fields["m"] is not None
    assert many.apps is apps


def test_a_clone_keeps_what_the_original_changes(many: LazyProjectState):
    before = many.clone()
    AddField("M3", "size", models.IntegerField(null=True)).state_forwards(APP, many)
    RenameField("M2", "m", "renamed").state_forwards(APP, many)
    DeleteModel("M19").state_forwards(APP, many)
    assert set(before.models[APP, "m3"].fields) == {"id", "m"}
    assert set(before.models[APP, "m2"].fields) == {"id", "m"}
    assert (APP, "m19") in before.models
    assert not hasattr(before.apps.get_model(APP, "m3"), "size")
    assert hasattr(many.apps.get_model(APP, "m3"), "size")


@pytest.mark.parametrize(
    "change",
    [
        lambda states, model: states.update({(APP, "new"): model}),
        lambda states, model: states.setdefault((APP, "new"), model),
        lambda states, model: states.__ior__({(APP, "new"): model}),
        lambda states, model: states.popitem(),
        lambda states, model: states.clear(),
    ],
    ids=["update", "setdefault", "|=", "popitem", "clear"],
)
def test_each_change_of_the_mapping_is_seen(many: LazyProjectState, change: Any):
    """Operations of other packages use it as the dictionary that Django has."""
    before = many.clone()
    names = {model.__name__ for model in before.apps.get_models()}
    key: Any = ("id", models.AutoField(primary_key=True))
    change(many.models, ModelState(APP, "New", [key]))
    assert {model.__name__ for model in many.apps.get_models()} == {
        model.name for model in many.models.values()
    }
    assert {model.__name__ for model in before.apps.get_models()} == names
    assert {model.name for model in many.models.values()} != names


def test_the_copy_of_a_registry_for_any_code_renders_all_models(many: LazyProjectState):
    with many.for_other_code():
        copied = many.apps.clone()
    assert hasattr(copied.get_model(APP, "m3")(pk=1), "m4_set")


def test_a_renamed_field_copies_its_model_and_those_that_refer_to_it(
    many: LazyProjectState, monkeypatch: pytest.MonkeyPatch
):
    """The cost of a rename does not grow with the project, and the clone keeps the
    references to the old name."""
    AlterField("M2", "id", models.IntegerField(primary_key=True)).state_forwards(APP, many)
    AlterField("M3", "m", foreign("M2", to_field="id")).state_forwards(APP, many)
    before = many.clone()
    copied: list[str] = []
    clone = models.Field.clone

    def counted(self: models.Field[Any, Any]) -> Any:
        copied.append(type(self).__name__)
        return clone(self)

    monkeypatch.setattr(models.Field, "clone", counted)
    RenameField("M2", "id", "number").state_forwards(APP, many)
    assert len(copied) == 4  # two fields of M2 and two of M3
    fields: list[Any] = [state.models[APP, "m3"].fields["m"] for state in (before, many)]
    kept, changed = fields
    assert (kept.remote_field.field_name, kept.to_fields) == ("id", ["id"])
    assert changed.remote_field.field_name == "number"
    assert list(changed.to_fields) == ["number"]


def test_reverse_relations_see_every_model(many: LazyProjectState):
    model = many.apps.get_model(APP, "m3")
    (related,) = model._meta.related_objects
    assert related.related_model is many.apps.get_model(APP, "m4")


def test_the_models_of_an_app_are_all_of_them(many: LazyProjectState):
    assert len(list(many.apps.get_app_config(APP).get_models())) == 20
    assert len(many.clone().apps.get_app_config(APP).models) == 20


def test_a_model_that_is_replaced_stays_replaced(many: LazyProjectState):
    """`migrate` replaces the models of apps without migrations before post_migrate."""
    apps = many.apps
    apps.require_all()
    other = ModelState(
        APP,
        "M3",
        [("id", models.AutoField(primary_key=True)), ("own", models.IntegerField())],
    )
    with apps.bulk_update():
        apps.unregister_model(APP, "m3")
    apps.render_multiple([other])
    assert hasattr(apps.get_model(APP, "m3"), "own")
    assert len(apps.get_models()) == 20


def test_python_follows_relations_on_instances(many: LazyProjectState, rendered: list[str]):
    """It gets all models; the registry is the same for the next operation."""
    seen = []

    def code(apps: Any, editor: Any) -> None:
        seen.append(apps)
        assert hasattr(apps.get_model(APP, "m3")(pk=1), "m4_set")

    for _ in range(2):
        before = many.clone()
        operation = RunPython(code)
        operation.state_forwards(APP, many)
        with connections["default"].schema_editor(atomic=False) as editor:
            operation.database_forwards(APP, editor, before, many)
    assert seen[0] is seen[1]
    assert len(rendered) == 20


def reversal(code: Any) -> list[Migration]:
    """Return migrations with Python that runs when they are reverted."""
    return migrations_of(
        [
            [create("A"), create("B", ("a", foreign("A")))],
            [
                RunPython(RunPython.noop, code),
                SeparateDatabaseAndState([RunPython(RunPython.noop, code)], []),
            ],
        ]
    )


def test_python_follows_relations_on_instances_backwards():
    """Django does not tell the state that it passes it to code, unlike forwards."""
    seen: list[bool] = []

    def code(apps: Any, editor: Any) -> None:
        seen.append(hasattr(apps.get_model(APP, "a")(pk=1), "b_set"))

    executor: Any = MigrationExecutor(connections["default"])
    with states.executors_render_on_demand(pytest.fail):
        state = LazyProjectState()
        first, last = reversal(code)
        first.mutate_state(state, preserve=False)
        executor.unapply_migration(state, last)
    assert seen == [True, True]


def test_python_that_does_nothing_renders_nothing(
    many: LazyProjectState, rendered: list[str]
):
    operation = RunPython(RunPython.noop)
    with connections["default"].schema_editor(atomic=False) as editor:
        operation.database_forwards(APP, editor, many.clone(), many)
    assert rendered == []


class Careless(Operation):
    """An operation of another package: changes a field in place and reads every model."""

    reduces_to_sql = True

    def __init__(self) -> None:
        self.seen: list[tuple[bool, bool]] = []

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        for model in state.models.values():
            if model.name == "M3":
                model.fields["extra"] = models.IntegerField(null=True)
                model.fields["m"].null = False

    def database_forwards(
        self, app: str, editor: Any, from_state: Any, to_state: Any
    ) -> None:
        for state in (from_state, to_state):
            model = state.apps.get_model(APP, "m3")
            assert hasattr(model(pk=1), "m4_set")
            self.seen.append((model._meta.get_field("m").null, hasattr(model, "extra")))

    def database_backwards(
        self, app: str, editor: Any, from_state: Any, to_state: Any
    ) -> None:
        self.database_forwards(app, editor, from_state, to_state)


def test_an_operation_of_another_package_gets_all_models(many: LazyProjectState):
    operation = Careless()
    earlier, before = many.clone(), many.clone()
    states.advance(operation, APP, many)
    with states.ready_for(operation, before, many):
        operation.database_forwards(APP, None, before, many)
    assert operation.seen == [(True, False), (False, True)]
    assert "extra" not in earlier.models[APP, "m3"].fields
    assert earlier.models[APP, "m3"].fields["m"].null


def test_an_operation_of_django_renders_no_more_than_it_asks_for(
    many: LazyProjectState, rendered: list[str]
):
    operation = AddField("M3", "size", models.IntegerField(null=True))
    before = many.clone()
    states.advance(operation, APP, many)
    with states.ready_for(operation, before, many):
        many.apps.get_model(APP, "m3")
    assert sorted(rendered) == ["M2", "M3"]


def test_a_part_of_another_package_gets_all_models_and_its_own_copies(
    many: LazyProjectState,
):
    """Django computes the states between the parts of an operation from those around it."""
    parts = [Careless(), Careless()]
    operation: Any = SeparateDatabaseAndState([*parts], [])
    before, end = many.clone(), many.clone()
    states.advance(operation, APP, end)
    with states.ready_for(operation, before, end):
        operation.database_forwards(APP, None, before, end)
    assert parts[0].seen == [(True, False), (False, True)]
    assert parts[1].seen == [(False, True), (False, True)]
    for part in parts:
        part.seen.clear()
    with states.ready_for(operation, before, end):
        operation.database_backwards(APP, None, end, before)
    assert parts[0].seen == [(False, True), (True, False)]
    assert parts[1].seen == [(False, True), (False, True)]
    assert many.models[APP, "m3"].fields["m"].null


def test_an_operation_that_a_receiver_of_pre_migrate_adds_is_prepared():
    """It is added after the executor has created its first state."""
    executor: Any = MigrationExecutor(connections["default"])
    (migration,) = migrations_of([[]])
    with states.executors_render_on_demand(pytest.fail):
        state = executor._create_project_state(with_applied_migrations=False)
        for number in range(5):
            last = [("m", foreign(f"M{number - 1}"))] if number else []
            create(f"M{number}", *last).state_forwards(APP, state)
        added = Careless()
        vars(migration)["operations"].append(added)
        before = state.clone()
        executor.apply_migration(state.clone(), migration)
        executor.unapply_migration(state.clone(), migration)
    MigrationRecorder(connections["default"]).migration_qs.filter(app=APP).delete()
    assert added.seen == [(True, False), (False, True), (False, True), (True, False)]
    assert before.models[APP, "m3"].fields["m"].null
    assert not vars(added).keys() & {"state_forwards", "database_forwards"}


def test_executors_render_on_demand_for_one_block():
    """Operations of other packages are prepared, in their parts as well, and then left as
    they were."""
    executor: Any = MigrationExecutor(connections["default"])
    kind: Any = MigrationExecutor
    inner = Careless()
    outer, own = SeparateDatabaseAndState([inner], []), create("A")
    migration = next(iter(executor.loader.graph.nodes.values()))
    usual = migration.operations
    vars(migration)["operations"] = [outer, own]
    create_state = kind._create_project_state
    try:
        with states.executors_render_on_demand(pytest.fail):
            state = executor._create_project_state(with_applied_migrations=False)
            assert type(state) is LazyProjectState
            assert "database_forwards" in vars(outer)
            assert "state_forwards" in vars(outer)
            assert not vars(own).keys() & {"state_forwards", "database_forwards"}
    finally:
        vars(migration)["operations"] = usual
    assert kind._create_project_state is create_state
    assert not vars(outer).keys() & {"state_forwards", "database_forwards"}


def test_receivers_of_pre_migrate_get_all_models(rendered: list[str]):
    """The first step does not pay for them unless they ask."""
    executor: Any = MigrationExecutor(connections["default"])
    with states.executors_render_on_demand(pytest.fail):
        state = executor._create_project_state(with_applied_migrations=True)
        apps, of_steps = state.apps, state.clone()
        of_steps.apps.get_model("auth", "group")
        assert len(rendered) < 5
        assert hasattr(apps.get_model("auth", "group")(pk=1), "user_set")
        assert len(rendered) > 5
        assert of_steps.apps is not apps


def test_a_missing_model_is_left_to_django():
    """Django reports it when it renders the state."""
    state = ProjectState()
    create("B", ("a", foreign("Missing"))).state_forwards(APP, state)
    (migration,) = migrations_of([[create("B", ("a", foreign("Missing")))]])
    assert type(states.state_after([migration], set())) is ProjectState
    with pytest.raises(ValueError, match=r"lazy reference to 'lazy\.missing'"):
        state.apps  # noqa: B018 - raises


def test_the_states_of_another_package_are_left_to_it(monkeypatch: pytest.MonkeyPatch):
    class Other(ProjectState):
        pass

    assert states.problem_of(Other())
    assert not states.problem_of(ProjectState())
    assert type(states.empty_state(set())) is LazyProjectState

    def clone(self: ProjectState) -> ProjectState:
        return self

    monkeypatch.setattr(ProjectState, "clone", clone)
    assert states.problem_of(ProjectState())
    assert type(states.empty_state(set())) is ProjectState


def test_a_swapped_model_is_found_through_its_setting(settings: Any):
    settings.AUTH_USER_MODEL = f"{APP}.Person"
    state = LazyProjectState()
    create("Person", ("name", text())).state_forwards(APP, state)
    CreateModel(
        "User",
        [("id", models.AutoField(primary_key=True))],
        options={"swappable": "AUTH_USER_MODEL"},
    ).state_forwards("auth", state)
    create(
        "Note",
        ("by", models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)),
    ).state_forwards(APP, state)
    note = state.apps.get_model(APP, "note")
    assert note._meta.get_field("by").related_model is state.apps.get_model(APP, "person")
