"""Tests that code of a project and swapped and generic relations have the same statements,
schema and recorder with states that render on demand as with Django's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal
from django.db import connections, models
from django.db.migrations import (
    AddField,
    AlterField,
    AlterModelManagers,
    DeleteModel,
    RemoveField,
    RenameField,
    RenameModel,
    RunPython,
    RunSQL,
    SeparateDatabaseAndState,
)
from django.db.migrations.operations.base import Operation
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState

from migration_route.planning.lazy_states import LazyProjectState
from migration_route.planning.model_references import real_models
from tests.factories import create_model, tables
from tests.planning.parity import (
    APP,
    Run,
    Steps,
    Together,
    assert_parity,
    create,
    executors,
    foreign,
    recorded_statements,
    structure,
    text,
)

if TYPE_CHECKING:
    from tests.factories import History

pytestmark = pytest.mark.usefixtures("database")


class Named(models.Manager[Any]):
    """A manager that migrations keep."""

    use_in_migrations = True

    def named(self, name: str) -> Any:
        return self.filter(name=name)


def fill(apps: Any, editor: Any) -> None:
    """Write through managers, and along relations in both directions."""
    a, b = apps.get_model(APP, "A"), apps.get_model(APP, "B")
    first = a.objects.create(name="x")
    first.b_set.create()
    first.others.add(first)
    assert a.objects.filter(b__isnull=False).prefetch_related("b_set").count() == 1
    assert b.objects.select_related("a").get().a == first


def empty(apps: Any, editor: Any) -> None:
    a = apps.get_model(APP, "A")
    for each in a.objects.all():
        each.b_set.all().delete()
        each.delete()


def python_along_relations() -> Steps:
    return [
        [
            create("A", ("name", text()), ("others", models.ManyToManyField(f"{APP}.A"))),
            create("B", ("a", foreign("A"))),
        ],
        [RunPython(fill, empty)],
        [AddField("B", "size", models.IntegerField(null=True))],
        [SeparateDatabaseAndState([RunPython(empty, fill)], [])],
        [RunPython(RunPython.noop, RunPython.noop), RemoveField("A", "others")],
    ]


def managers() -> Steps:
    def code(apps: Any, editor: Any) -> None:
        model = apps.get_model(APP, "A")
        model.named.create(name="x")
        assert model.named.named("x").count() > 0

    def plain(apps: Any, editor: Any) -> None:
        model = apps.get_model(APP, "A")
        assert not hasattr(model, "named")
        model.objects.filter(name="x").delete()

    return [
        [create("A", ("name", text())), create("B", ("a", foreign("A")))],
        [RunPython(plain, plain), AlterModelManagers("A", [("named", Named())])],
        [RunPython(code, code)],
        [RenameModel("A", "C"), AddField("C", "size", models.IntegerField(null=True))],
        [AlterModelManagers("C", [])],
        [RenameModel("C", "A"), RunPython(plain, plain)],
    ]


class Counts(Operation):
    """Adds a column to every model with a name, and counts along relations."""

    reduces_to_sql = True

    def state_forwards(self, app_label: str, state: Any) -> None:
        named = [
            (key, model)
            for key, model in state.models.items()
            if key[0] == app_label and "name" in model.fields
        ]
        for key, model in named:
            model.fields["count"] = models.IntegerField(null=True)
            model.fields["name"] = text(db_index=True)
            state.reload_model(*key)

    def database_forwards(self, app: str, editor: Any, before: Any, after: Any) -> None:
        for old in before.apps.get_app_config(app).get_models():
            new = after.apps.get_model(app, old.__name__)
            if hasattr(new, "count") and not hasattr(old, "count"):
                editor.add_field(new, new._meta.get_field("count"))
                editor.alter_field(
                    old, old._meta.get_field("name"), new._meta.get_field("name")
                )
        after.apps.get_model(app, "A")(pk=1).b_set.count()

    def database_backwards(self, app: str, editor: Any, before: Any, after: Any) -> None:
        for new in before.apps.get_app_config(app).get_models():
            old = after.apps.get_model(app, new.__name__)
            if hasattr(new, "count") and not hasattr(old, "count"):
                editor.alter_field(
                    new, new._meta.get_field("name"), old._meta.get_field("name")
                )
                editor.remove_field(new, new._meta.get_field("count"))
        before.apps.get_model(app, "A")(pk=1).b_set.count()


class Keeps(Operation):
    """Changes the mapping of models with all that a mapping offers."""

    reduces_to_sql = True

    def state_forwards(self, app_label: str, state: Any) -> None:
        model = state.models.pop((app_label, "a"))
        copy = model.clone()
        copy.options["verbose_name"] = "kept"
        copy.fields["kept"] = models.IntegerField(null=True)
        assert state.models.setdefault((app_label, "a"), copy) is copy
        state.models.update({(app_label, "a"): copy})
        state.models |= {(app_label, "a"): copy}
        state.reload_model(app_label, "a")

    def database_forwards(self, app: str, editor: Any, before: Any, after: Any) -> None:
        new = after.apps.get_model(app, "A")
        editor.add_field(new, new._meta.get_field("kept"))

    def database_backwards(self, app: str, editor: Any, before: Any, after: Any) -> None:
        old = before.apps.get_model(app, "A")
        editor.remove_field(old, old._meta.get_field("kept"))


def tables_of_names() -> list[Operation]:
    return [
        create("A", ("name", text())),
        create("B", ("a", foreign("A")), ("name", text())),
    ]


def custom_operations() -> Steps:
    return [tables_of_names(), [Counts()], [AddField("A", "z", text())], [Keeps()]]


def custom_operations_in_parts() -> Steps:
    size = models.IntegerField(null=True)
    return [
        tables_of_names(),
        [
            SeparateDatabaseAndState(
                [SeparateDatabaseAndState([Counts()], []), AddField("B", "size", size)],
                [SeparateDatabaseAndState([], [Counts(), AddField("B", "size", size)])],
            )
        ],
        [Together(AddField("A", "z", text()), RenameField("A", "z", "last"), Keeps())],
        [Together(RenameModel("B", "C"), SeparateDatabaseAndState([Keep()], []))],
        [RunSQL("SELECT 1", "SELECT 2", state_operations=[Counts()])],
    ]


class Keep(Operation):
    """Reads every model and changes nothing."""

    reduces_to_sql = True

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Nothing changes."""

    def database_forwards(self, app: str, editor: Any, before: Any, after: Any) -> None:
        for state in (before, after):
            model = state.apps.get_model(app, "C")
            assert hasattr(state.apps.get_model(app, "A")(pk=1), "c_set")
            editor.execute(f"SELECT COUNT(*) FROM {model._meta.db_table}", None)

    def database_backwards(self, app: str, editor: Any, before: Any, after: Any) -> None:
        self.database_forwards(app, editor, before, after)


@pytest.mark.parametrize(
    "scenario",
    [custom_operations, custom_operations_in_parts, managers, python_along_relations],
    ids=lambda each: each.__name__,
)
def test_code_has_the_outcome_of_django(scenario: Callable[[], Steps]):
    assert_parity(scenario)


@pytest.fixture
def swapped(settings: Any) -> Iterator[Any]:
    """Replace the user model, and another one."""
    settings.AUTH_USER_MODEL = f"{APP}.Person"
    settings.LAZY_PLACE_MODEL = f"{APP}.Town"
    real_models.cache_clear()
    yield settings
    real_models.cache_clear()


def test_swapped_models_have_the_outcome_of_django(swapped: Any):
    """The reference goes to the model of the setting, and the swapped one has no table."""

    def user(**words: Any) -> Any:
        return models.ForeignKey(swapped.AUTH_USER_MODEL, models.CASCADE, **words)

    def steps() -> Steps:
        swappable = {"swappable": "LAZY_PLACE_MODEL"}
        place = models.ForeignKey(swapped.LAZY_PLACE_MODEL, models.CASCADE, null=True)
        return [
            [create("Place", ("name", text()), options=swappable), create("Town")],
            [create("Person", ("name", text()), ("place", place))],
            [
                create(
                    "Note",
                    ("by", user()),
                    ("readers", models.ManyToManyField(swapped.AUTH_USER_MODEL)),
                    ("group", models.ForeignKey("auth.Group", models.CASCADE)),
                ),
                create("Log", ("by", user(related_name="+", null=True))),
            ],
            [AlterField("Person", "id", models.BigAutoField(primary_key=True))],
            [AddField("Place", "size", models.IntegerField(default=1))],
            [AlterField("Town", "id", models.BigAutoField(primary_key=True))],
            [RenameField("Note", "by", "author"), RenameModel("Log", "Record")],
            [AlterField("Note", "author", user(null=True, db_index=False))],
            [DeleteModel("Place")],
        ]

    assert_parity(steps, real_apps=frozenset({"auth", "contenttypes"}))


def test_a_renamed_user_model_has_the_outcome_of_django(swapped: Any):
    """The setting names it as it is called at last."""
    swapped.AUTH_USER_MODEL = f"{APP}.Member"

    def steps() -> Steps:
        user = models.ForeignKey(f"{APP}.Person", models.CASCADE)
        return [
            [create("Person", ("name", text())), create("Note", ("by", user))],
            [RenameModel("Person", "Member")],
            [AlterField("Member", "id", models.BigAutoField(primary_key=True))],
            [
                AddField(
                    "Note",
                    "owner",
                    models.ForeignKey(
                        swapped.AUTH_USER_MODEL, models.CASCADE, null=True, related_name="+"
                    ),
                )
            ],
        ]

    assert_parity(steps, real_apps=frozenset({"auth", "contenttypes"}))


def test_generic_relations_have_the_outcome_of_django():
    """They have no column; a migration written by hand may list them."""

    def steps() -> Steps:
        kind = models.ForeignKey("contenttypes.ContentType", models.CASCADE, null=True)
        tag = [
            ("content_type", kind),
            ("object_id", models.PositiveIntegerField(null=True)),
            ("of", GenericForeignKey("content_type", "object_id")),
        ]

        def tags() -> Any:
            return GenericRelation(f"{APP}.Tag")

        return [
            [create("Tag", *tag)],
            [create("A", ("name", text()), ("tags", tags())), create("B")],
            [AddField("B", "tags", tags()), AddField("A", "z", text())],
            [RenameModel("Tag", "Label"), RenameField("Label", "object_id", "object")],
            [AlterField("A", "id", models.BigAutoField(primary_key=True))],
            [RemoveField("B", "tags"), RenameModel("A", "C")],
        ]

    eager, lazy = (
        Run(kind, steps(), real_apps=frozenset({"contenttypes"}))
        for kind in (ProjectState, LazyProjectState)
    )
    assert str(lazy.error) == str(eager.error)
    assert lazy.outcome == eager.outcome


GENERIC = """
from django.contrib.contenttypes.fields import GenericForeignKey

def fill(apps, editor):
    kind = apps.get_model("contenttypes", "ContentType")
    made = apps.get_model("testapp", "Made").objects.create()
    of, _ = kind.objects.get_or_create(app_label="testapp", model="made")
    apps.get_model("testapp", "Tag").objects.create(content_type=of, object_id=made.pk)
    assert of.tag_set.count() == 1

def empty(apps, editor):
    for kind in apps.get_model("contenttypes", "ContentType").objects.all():
        kind.tag_set.all().delete()
"""


def test_content_types_are_renamed_with_their_models(history: History):
    """A receiver of pre_migrate of contenttypes adds operations to the plan."""
    history.write(
        "0001_models",
        create_model("Made"),
        create_model(
            "Tag",
            "('content_type', models.ForeignKey("
            "'contenttypes.ContentType', models.CASCADE))",
            "('object_id', models.PositiveIntegerField())",
        ),
        body='dependencies = [("contenttypes", "0002_remove_content_type_name")]',
    )
    history.write("0002_fill", "migrations.RunPython(fill, empty)", head=GENERIC)
    history.write("0003_renamed", "migrations.RenameModel('Made', 'Renamed')")
    history.write("0004_again", "migrations.RenameModel('Renamed', 'Again')")
    emit_post_migrate_signal(0, False, "default")
    found = [migrated_both_ways(kind) for kind in (ProjectState, LazyProjectState)]
    assert found[0] == found[1]
    names = found[0][1]
    assert ("made" in names[0], "again" in names[0]) == (False, True)
    assert ("renamed" in names[1], "again" in names[1]) == (True, False)
    assert "made" in names[2]


def migrated_both_ways(kind: type[ProjectState]) -> tuple[Any, list[list[str]], list[Any]]:
    """Return the statements, the content types and the tables after each command."""
    connection = connections["default"]
    types = ContentType.objects.filter(app_label="testapp").order_by("model")
    before, names, structures = tables(), [], []
    kept = set(types.values_list("model", flat=True))
    with recorded_statements() as statements, executors(kind):
        for target in ("0004", "0003", "0001", "0004", "zero"):
            ContentType.objects.clear_cache()
            call_command("migrate", "testapp", target, verbosity=0)
            names.append(list(types.values_list("model", flat=True)))
            structures.append(structure(tables() - before))
    types.exclude(model__in=kept).delete()
    recorder = MigrationRecorder(connection)
    assert not recorder.migration_qs.filter(app="testapp").exists()
    return statements, names, structures
