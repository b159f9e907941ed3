"""Tests that states which render on demand lead to the same statements and the same schema
as Django's own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections, models
from django.db.migrations import (
    AddConstraint,
    AddField,
    AddIndex,
    AlterField,
    AlterModelTable,
    AlterOrderWithRespectTo,
    AlterUniqueTogether,
    CreateModel,
    DeleteModel,
    Migration,
    RemoveField,
    RenameField,
    RenameIndex,
    RenameModel,
    RunPython,
    SeparateDatabaseAndState,
)
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ModelState, ProjectState

from migration_route.planning import states
from migration_route.planning.lazy_states import LazyProjectState
from tests.factories import tables

pytestmark = pytest.mark.usefixtures("database")

APP = "lazy"
Steps = list[list[Operation]]


def create(
    name: str, *fields: tuple[str, models.Field[Any, Any]], **words: Any
) -> Operation:
    """Return the operation that creates a model with an integer key, unless it has one."""
    keyed = any(field.primary_key for _, field in fields) or "bases" in words
    key = [] if keyed else [("id", models.AutoField(primary_key=True))]
    return CreateModel(name, [*key, *fields], **words)


def foreign(to: str, **words: Any) -> models.ForeignKey[Any, Any]:
    words = {"on_delete": models.CASCADE, "null": True, **words}
    return models.ForeignKey(f"{APP}.{to}", **words)


def one_to_one(to: str, **words: Any) -> models.OneToOneField[Any, Any]:
    return models.OneToOneField(f"{APP}.{to}", on_delete=models.CASCADE, **words)


def text(**words: Any) -> models.CharField[Any, Any]:
    return models.CharField(max_length=20, **{"default": "", **words})


def added_and_altered() -> Steps:
    """On SQLite the order of the columns depends on the order of rendering."""
    return [
        [create("A", ("first", text()), ("second", text()))],
        [AddField("A", "third", models.IntegerField(default=1))],
        [AlterField("A", "first", models.CharField(max_length=30, default="x"))],
        [RemoveField("A", "second"), AddField("A", "fourth", text(db_index=True))],
    ]


def key_becomes_big() -> Steps:
    """The columns that refer to the key, directly or through another key, change too."""
    return [
        [
            create("A", ("name", text())),
            create("B", ("a", foreign("A"))),
            create("C", ("many", models.ManyToManyField(f"{APP}.A"))),
            create("D", ("a", one_to_one("A", primary_key=True))),
            create("E", ("d", foreign("D"))),
        ],
        [AddField("B", "size", models.IntegerField(null=True))],
        [AlterField("A", "id", models.BigAutoField(primary_key=True))],
    ]


def renamed_field_with_references() -> Steps:
    """The fields that name a renamed field are changed in place by Django."""
    return [
        [
            create("A", ("code", text(unique=True, default=None))),
            create("B", ("a", foreign("A", to_field="code"))),
        ],
        [
            RenameField("A", "code", "label"),
            AddField("B", "size", models.IntegerField(null=True)),
        ],
        [AlterField("A", "label", models.CharField(max_length=40, unique=True))],
    ]


def renamed_model() -> Steps:
    return [
        [
            create("A", ("parent", foreign("A"))),
            create(
                "B", ("a", foreign("A")), ("others", models.ManyToManyField(f"{APP}.A"))
            ),
        ],
        [RenameModel("A", "Renamed")],
        [AddField("Renamed", "name", text()), RenameField("B", "a", "renamed")],
    ]


def many_to_many() -> Steps:
    return [
        [create("A"), create("B", ("many", models.ManyToManyField(f"{APP}.A")))],
        [
            create("Link", ("a", foreign("A")), ("b", foreign("B"))),
            AddField(
                "B",
                "linked",
                models.ManyToManyField(
                    f"{APP}.A", through=f"{APP}.Link", related_name="linked_b"
                ),
            ),
        ],
        [AlterModelTable("B", "lazy_b_elsewhere")],
        [AlterField("B", "many", models.ManyToManyField(f"{APP}.A", related_name="bs"))],
        [RemoveField("B", "many")],
    ]


def inheritance_and_proxies() -> Steps:
    parent = models.OneToOneField(
        f"{APP}.Parent",
        models.CASCADE,
        parent_link=True,
        auto_created=True,
        primary_key=True,
        serialize=False,
    )
    return [
        [create("Parent", ("name", text()))],
        [
            CreateModel(
                "Child",
                [("parent_ptr", parent), ("size", models.IntegerField(null=True))],
                bases=(f"{APP}.parent",),
            ),
            CreateModel("Proxy", [], options={"proxy": True}, bases=(f"{APP}.child",)),
            create("D", ("proxy", foreign("Proxy"))),
        ],
        [AlterField("Parent", "id", models.BigAutoField(primary_key=True))],
        [AddField("Child", "other", foreign("Parent", related_name="others"))],
    ]


def options_and_constraints() -> Steps:
    return [
        [create("A", ("x", models.IntegerField()), ("y", models.IntegerField(default=0)))],
        [
            AddIndex("A", models.Index(fields=["x"], name="lazy_a_x")),
            AddConstraint(
                "A", models.CheckConstraint(condition=models.Q(x__gt=0), name="lazy_gt")
            ),
            AlterUniqueTogether("A", {("x", "y")}),
        ],
        [RenameIndex("A", new_name="lazy_a_xx", old_name="lazy_a_x")],
        [create("B", ("a", foreign("A")))],
        [AlterOrderWithRespectTo("B", "a")],
        [AlterUniqueTogether("A", set())],
    ]


def defaults_of_the_database() -> Steps:
    total = models.GeneratedField(
        expression=models.F("x") + models.F("y"),
        output_field=models.IntegerField(),
        db_persist=True,
    )
    return [
        [
            create(
                "A", ("x", models.IntegerField(db_default=1)), ("y", models.IntegerField())
            )
        ],
        [AddField("A", "total", total)],
        [AddField("A", "named", text(default=models.NOT_PROVIDED, db_default="n"))],
    ]


def state_and_database_apart() -> Steps:
    return [
        [create("A", ("x", models.IntegerField()))],
        [
            SeparateDatabaseAndState(
                database_operations=[AddField("A", "y", models.IntegerField(null=True))],
                state_operations=[AddField("A", "y", models.IntegerField(null=True))],
            )
        ],
        [AlterField("A", "y", models.BigIntegerField(null=True))],
    ]


def removed_and_made_again() -> Steps:
    return [
        [create("A", ("x", text())), create("B", ("a", foreign("A")))],
        [RemoveField("B", "a"), DeleteModel("A")],
        [create("A", ("y", models.IntegerField())), AddField("B", "a", foreign("A"))],
        [AddField("A", "z", text())],
    ]


SCENARIOS = [
    added_and_altered,
    key_becomes_big,
    renamed_field_with_references,
    renamed_model,
    many_to_many,
    inheritance_and_proxies,
    options_and_constraints,
    defaults_of_the_database,
    state_and_database_apart,
    removed_and_made_again,
]


def migrations_of(steps: Steps) -> list[Migration]:
    made = []
    for number, operations in enumerate(steps, start=1):
        migration = Migration(f"{number:04}", APP)
        vars(migration)["operations"] = operations
        made.append(migration)
    return made


def structure(names: set[str]) -> dict[str, Any]:
    """Return the columns of these tables in their order, and their constraints."""
    connection = connections["default"]
    found = {}
    with connection.cursor() as cursor:
        for table in sorted(names):
            columns = connection.introspection.get_table_description(cursor, table)
            constraints = connection.introspection.get_constraints(cursor, table)
            found[table] = (
                [column[:7] for column in columns],
                sorted(map(str, constraints.values())),
            )
    return found


class Run:
    """The statements of migrations that are applied and reverted, and what they leave."""

    def __init__(
        self, kind: type[ProjectState], steps: Steps, *, back: bool = True
    ) -> None:
        self.connection = connections["default"]
        self.existing = tables()
        self.statements: Counter[str] = Counter()
        self.structures: list[dict[str, Any]] = []
        migrations = migrations_of(steps)
        assert self.connection.features.supports_json_field is not None  # asks the server
        try:
            with self.connection.execute_wrapper(self.record):
                self.apply(kind, migrations)
                if back:
                    self.revert(kind, migrations)
        finally:
            self.clean()

    def record(self, execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        text = re.sub(r'SAVEPOINT "?\w+"?', "SAVEPOINT", str(sql))
        self.statements[re.sub(r"'[^']*'", "?", text)] += 1
        return execute(sql, params, many, context)

    def apply(self, kind: type[ProjectState], migrations: list[Migration]) -> None:
        state = kind()
        for migration in migrations:
            with self.connection.schema_editor(atomic=migration.atomic) as editor:
                state = migration.apply(state, editor)
            self.structures.append(structure(tables() - self.existing))

    def revert(self, kind: type[ProjectState], migrations: list[Migration]) -> None:
        """As the executor does: with the states before each of them, made beforehand."""
        before, state = [], kind()
        for migration in migrations:
            state.apps  # noqa: B018 - renders, as the executor does
            before.append(state)
            state = migration.mutate_state(state, preserve=True)
        for migration, earlier in zip(reversed(migrations), reversed(before), strict=True):
            with self.connection.schema_editor(atomic=migration.atomic) as editor:
                migration.unapply(earlier, editor)
            self.structures.append(structure(tables() - self.existing))

    def clean(self) -> None:
        if self.connection.in_atomic_block:  # the editor's, if a deferred statement fails
            self.connection.in_atomic_block = False
            self.connection.close()
        left = tables() - self.existing
        with (
            self.connection.constraint_checks_disabled(),
            self.connection.cursor() as cursor,
        ):
            for table in left:
                cascade = " CASCADE" if self.connection.vendor == "postgresql" else ""
                name = self.connection.ops.quote_name(table)
                cursor.execute(f"DROP TABLE {name}{cascade}")


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
def test_the_statements_and_the_schema_are_those_of_django(scenario: Callable[[], Steps]):
    eager, lazy = Run(ProjectState, scenario()), Run(LazyProjectState, scenario())
    assert eager.statements
    assert lazy.statements == eager.statements
    assert lazy.structures == eager.structures


def test_a_parent_may_be_removed_before_its_child():
    """The child keeps the class of its parent, as in Django."""

    def steps() -> Steps:
        return [
            [
                create("A", ("name", text())),
                create("B", ("a", foreign("A", db_constraint=False))),
            ],
            [DeleteModel("A")],
            [RemoveField("B", "a")],
            [DeleteModel("B")],
        ]

    eager, lazy = (
        Run(ProjectState, steps(), back=False),
        Run(LazyProjectState, steps(), back=False),
    )
    assert lazy.statements == eager.statements
    assert lazy.structures == eager.structures


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
    states.require_all_models(operation, before, many)
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
    states.require_all_models(operation, before, many)
    many.apps.get_model(APP, "m3")
    assert sorted(rendered) == ["M2", "M3"]


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
            assert "database_forwards" in vars(inner)
            assert "state_forwards" in vars(outer)
            assert not vars(own).keys() & {"state_forwards", "database_forwards"}
    finally:
        vars(migration)["operations"] = usual
    assert kind._create_project_state is create_state
    assert "database_forwards" not in vars(inner)
    assert "state_forwards" not in vars(outer)


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
    assert states.on_demand(state) is state
    with pytest.raises(ValueError, match=r"lazy reference to 'lazy\.missing'"):
        state.apps  # noqa: B018 - raises


def test_the_states_of_another_package_are_left_to_it(monkeypatch: pytest.MonkeyPatch):
    class Other(ProjectState):
        pass

    other, plain = Other(), ProjectState()
    assert states.on_demand(other) is other
    assert type(states.on_demand(plain)) is LazyProjectState

    def clone(self: ProjectState) -> ProjectState:
        return self

    monkeypatch.setattr(ProjectState, "clone", clone)
    assert states.on_demand(plain) is plain


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
