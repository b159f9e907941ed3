"""Tests of the findings that are derived from states, in both directions, without false
alarms."""

from __future__ import annotations

import pytest
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.core.enums import Mode, Severity
from migration_route.planning import changes
from migration_route.planning.changes import read_changes
from migration_route.planning.findings import environment, findings_of
from migration_route.planning.plan import PlanRequest
from migration_route.planning.planner import make_plan
from migration_route.planning.sql import plan_moves
from tests.factories import create_model

OF_THE_PROJECT = {"models_changed", "other_database", "ddl_commits", "not_atomic"}
TITLE = "('title', models.CharField(max_length=100))"
CODE = "('code', models.CharField(max_length=20, null=True))"


@pytest.fixture(autouse=True)
def ours_alone(settings):
    """Other engines have their own tests."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LINTERS": False}


@pytest.fixture
def shelf(history):
    """Return a model whose table exists."""
    history.write(
        "0001_initial",
        create_model("Author"),
        create_model(
            "Shelf",
            TITLE,
            CODE,
            "('author', models.ForeignKey('testapp.Author', models.CASCADE, null=True))",
            "('authors', models.ManyToManyField('testapp.Author', related_name='+'))",
        ),
    )
    MigrationRecorder(connections["default"]).record_applied("testapp", "0001_initial")
    return history


def planned(*targets, mode=Mode.APPLY):
    """Return the findings of a plan, except those about the project."""
    plan, migrations = make_plan(PlanRequest(targets=targets or ("testapp",), mode=mode))
    found = findings_of(plan, migrations)
    return [finding for finding in found if finding.code not in OF_THE_PROJECT]


def codes(*targets, **words):
    """Return code and step of the findings of a plan."""
    return [(finding.code, finding.operation) for finding in planned(*targets, **words)]


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        (("migrations.RemoveField('shelf', 'title')",), [("drops_column", 0)]),
        (("migrations.RemoveField('shelf', 'authors')",), [("drops_table", 0)]),
        (
            ("migrations.DeleteModel('Shelf')",),
            [("drops_table", 0), ("drops_table", 0)],
        ),
        (
            ("migrations.AlterModelTable('shelf', 'elsewhere')",),
            [("renames_table", 0)],
        ),
        (("migrations.AlterModelTable('shelf', 'testapp_shelf')",), []),
        (("migrations.RenameModel('Shelf', 'Rack')",), [("renames_table", 0)]),
        (("migrations.RenameField('shelf', 'author', 'by')",), [("renames_column", 0)]),
        (
            (
                "migrations.AlterField('shelf', 'title', "
                "models.CharField(max_length=100, help_text='new', db_index=True))",
            ),
            [],
        ),
        (
            ("migrations.AlterField('shelf', 'title', models.TextField())",),
            [],
        ),
        (
            ("migrations.AlterField('shelf', 'title', models.SlugField(max_length=50))",),
            [("narrows_column", 0)],
        ),
        (
            ("migrations.AlterField('shelf', 'title', models.DateField())",),
            [("changes_type", 0)],
        ),
        (
            (
                "migrations.AlterField('shelf', 'author', "
                "models.OneToOneField('testapp.author', models.CASCADE, null=True))",
            ),
            [("adds_unique", 0)],
        ),
        (
            (
                "migrations.AlterField('shelf', 'author', "
                "models.ForeignKey('testapp.Shelf', models.CASCADE, null=True))",
            ),
            [("adds_reference", 0)],
        ),
        (
            ("migrations.AlterUniqueTogether('shelf', {('title', 'code')})",),
            [("adds_unique", 0)],
        ),
        (
            (
                "migrations.AddField('shelf', 'day', "
                "models.DateField(default='2026-01-01'), preserve_default=False)",
            ),
            [("adds_required_column", 0)],
        ),
        (
            ("migrations.AddField('shelf', 'day', models.DateField(null=True))",),
            [],
        ),
        (
            ("migrations.AddField('shelf', 'number', models.IntegerField(db_default=0))",),
            [],
        ),
        (
            (
                "migrations.AddField('shelf', 'others', "
                "models.ManyToManyField('testapp.Author', related_name='+'))",
            ),
            [],
        ),
        (
            ("migrations.AddIndex('shelf', models.Index(fields=['code'], name='i'))",),
            [],
        ),
        (("migrations.AlterModelOptions('shelf', {'ordering': ['code']})",), []),
    ],
)
def test_what_is_said_of_an_operation_on_a_table_that_is_there(shelf, operations, expected):
    shelf.write("0002_next", *operations)
    assert codes() == expected


@pytest.mark.parametrize(
    "operations",
    [
        (
            create_model("Box", TITLE),
            "migrations.AddField('box', 'code', models.TextField(default=''))",
            "migrations.RenameField('box', 'code', 'number')",
            "migrations.AlterField('box', 'title', models.CharField(max_length=5))",
            "migrations.AlterUniqueTogether('box', {('title',)})",
            "migrations.RenameModel('Box', 'Case')",
            "migrations.RemoveField('case', 'title')",
            "migrations.DeleteModel('Case')",
        ),
        (
            "migrations.AddField('shelf', 'size', models.IntegerField(null=True))",
            "migrations.RenameField('shelf', 'size', 'width')",
            "migrations.AlterField('shelf', 'width', models.SmallIntegerField(null=True))",
            "migrations.RemoveField('shelf', 'width')",
        ),
        (
            "migrations.RunSQL('CREATE TABLE scratch (id int)', 'DROP TABLE scratch')",
            "migrations.RunSQL('DELETE FROM scratch; DROP TABLE scratch', '')",
        ),
        (
            "migrations.SeparateDatabaseAndState(state_operations=["
            "migrations.RemoveField('shelf', 'title'), migrations.DeleteModel('Author')])",
        ),
        (
            "migrations.RunSQL('SELECT 1', '', state_operations=["
            "migrations.RemoveField('shelf', 'title')])",
        ),
    ],
    ids=["a new table", "a new column", "a table of raw SQL", "state only", "state of SQL"],
)
def test_what_the_plan_makes_and_what_only_the_state_knows_raise_no_alarm(
    shelf, operations
):
    shelf.write("0002_next", *operations)
    assert codes() == []


def test_what_reaches_the_database_is_seen_inside(shelf):
    """Whatever the state operations declare."""
    shelf.write(
        "0002_next",
        "migrations.SeparateDatabaseAndState(database_operations=["
        "migrations.RunSQL('SELECT 1', ''), migrations.RemoveField('shelf', 'title')])",
    )
    assert codes() == [("drops_column", 0)]


def test_a_column_that_is_added_filled_and_closed_still_fails_old_inserts(shelf):
    """Three operations have the same effect as one."""
    shelf.write(
        "0002_next",
        "migrations.AddField('shelf', 'number', models.IntegerField(null=True))",
        "migrations.AlterField('shelf', 'number', models.IntegerField())",
    )
    assert codes() == [("adds_required_column", 1)]


def test_a_constraint_that_takes_the_place_of_another_is_nothing_new(shelf):
    """As Django's release notes advise for `unique_together`."""
    shelf.write(
        "0002_next",
        "migrations.AlterUniqueTogether('shelf', {('title', 'code')})",
        "migrations.AddConstraint('shelf', models.UniqueConstraint("
        "fields=['title', 'code'], name='only'))",
    )
    assert codes() == [("adds_unique", 0)]


def test_what_was_unique_before_raises_no_alarm_when_its_constraint_is_made_anew(shelf):
    """In another order, under another name."""
    shelf.write("0002_next", "migrations.AlterUniqueTogether('shelf', {('title', 'code')})")
    MigrationRecorder(connection).record_applied("testapp", "0002_next")
    shelf.write(
        "0003_next",
        "migrations.AlterUniqueTogether('shelf', set())",
        "migrations.AddConstraint('shelf', models.UniqueConstraint("
        "fields=['code', 'title'], name='only'))",
    )
    assert codes() == []


def test_a_name_that_only_the_plan_knows_may_change_again(shelf):
    """The running release only uses the first name."""
    shelf.write(
        "0002_next",
        "migrations.RenameField('shelf', 'title', 'name')",
        "migrations.RenameField('shelf', 'name', 'label')",
        "migrations.AlterModelTable('shelf', 'rack')",
        "migrations.AlterModelTable('shelf', 'stand')",
    )
    assert codes() == [("renames_column", 0), ("renames_table", 2)]


def test_a_column_of_a_table_that_goes_as_well_is_not_told_apart(shelf):
    shelf.write(
        "0002_next",
        "migrations.RemoveField('shelf', 'author')",
        "migrations.DeleteModel('Shelf')",
    )
    assert [code for code, _ in codes()] == ["drops_table", "drops_table"]


def test_a_constraint_with_the_same_condition_is_nothing_new(shelf):
    """With another condition it is."""

    def constraint(code):
        return (
            "migrations.AddConstraint('shelf', models.UniqueConstraint("
            f"fields=['title'], condition=models.Q(code={code!r}), name='only'))"
        )

    away = "migrations.RemoveConstraint('shelf', 'only')"
    shelf.write("0002_next", constraint("a"))
    MigrationRecorder(connection).record_applied("testapp", "0002_next")
    shelf.write("0003_next", away, constraint("a"))
    assert codes() == []
    MigrationRecorder(connection).record_applied("testapp", "0003_next")
    shelf.write("0004_next", away, constraint("b"))
    assert codes() == [("adds_unique", 1)]


def test_a_reference_that_becomes_text_changes_its_type(shelf):
    shelf.write(
        "0002_next",
        "migrations.AlterField('shelf', 'author', "
        "models.CharField(max_length=9, null=True, db_column='author_id'))",
    )
    assert codes() == [("changes_type", 0)]


def test_a_uniqueness_with_a_condition_says_so(shelf):
    shelf.write(
        "0002_next",
        "migrations.AddConstraint('shelf', models.UniqueConstraint("
        "fields=['title'], condition=models.Q(code=None), name='only'))",
    )
    (found,) = planned()
    assert "testapp_shelf.title becomes unique where (AND: ('code', None))" in found.message


def test_python_that_sets_something_for_the_session_is_no_data(shelf):
    """As Wagtail does around SQLite's renames."""
    head = (
        "\n\ndef work(apps, schema_editor):\n"
        "    if schema_editor.connection.vendor == 'sqlite':\n"
        "        schema_editor.execute('PRAGMA legacy_alter_table = OFF')\n"
    )
    shelf.write(
        "0002_next",
        "migrations.RunPython(work, migrations.RunPython.noop)",
        "migrations.AddField('shelf', 'size', models.IntegerField(null=True))",
        head=head,
    )
    assert codes() == []


def test_the_way_back_of_an_addition_is_a_loss(shelf):
    """Both directions are read alike."""
    shelf.write(
        "0002_next",
        "migrations.AddField('shelf', 'size', models.IntegerField(null=True))",
    )
    MigrationRecorder(connection).record_applied("testapp", "0002_next")
    found = codes("testapp.0001_initial")
    assert found == [("backwards", None), ("drops_column", 0)]


def test_a_plan_that_only_records_changes_nothing(shelf):
    shelf.write("0002_next", "migrations.RemoveField('shelf', 'title')")
    assert codes(mode=Mode.FAKE) == []


class Elsewhere:
    """A router that keeps the app off this database."""

    def allow_migrate(self, db, app_label, **hints):
        return app_label != "testapp"


def test_what_the_router_keeps_away_raises_no_alarm(shelf, settings):
    settings.DATABASE_ROUTERS = [Elsewhere()]
    shelf.write(
        "0002_next",
        "migrations.RemoveField('shelf', 'title')",
        "migrations.RunSQL('DROP TABLE testapp_author', '')",
    )
    assert codes() == []


def test_a_forgotten_alias_weighs_more_on_another_database(shelf):
    """There it uses the wrong one; on the default one it may do so some day."""
    head = (
        "\n\ndef work(apps, schema_editor):\n"
        "    Shelf = apps.get_model('testapp', 'Shelf')\n"
        "    Shelf.objects.update(code='')\n"
    )
    shelf.write("0002_fill", "migrations.RunPython(work, work)", head=head)
    (here,) = planned()
    assert (here.code, here.severity) == ("forgets_alias", Severity.INFO)
    plan, migrations = make_plan(PlanRequest(database="other", targets=("testapp",)))
    there = [f for f in findings_of(plan, migrations) if f.code == "forgets_alias"]
    assert [found.severity for found in there] == [Severity.WARNING]


def test_a_plan_that_is_too_long_says_where_nobody_has_looked(shelf):
    """A missing finding must not be mistaken for safety."""
    shelf.write("0002_next", "migrations.RemoveField('shelf', 'title')")
    shelf.write("0003_next", "migrations.RemoveField('shelf', 'code')")
    plan, migrations = make_plan(PlanRequest(targets=("testapp",)))
    reading = read_changes(plan, migrations, budget=0)
    assert [change.step for change in reading.changes] == ["testapp.0002_next"]
    (found,) = environment.unread_findings(reading)
    assert found.code == "steps_not_read"
    assert "testapp.0003_next" in found.message


def test_the_pieces_of_one_plan_are_read_once(shelf, monkeypatch):
    """Another plan is read again."""
    walks = []

    def counted(*about):
        walks.append(about)
        return plan_moves(*about)

    monkeypatch.setattr(changes, "plan_moves", counted)
    shelf.write("0002_a", "migrations.RemoveField('shelf', 'title')")
    first, second = codes(), codes()
    assert first == second == [("drops_column", 0)]
    assert len(walks) == 1
    shelf.write("0003_b", "migrations.RemoveField('shelf', 'code')")
    assert codes() == [("drops_column", 0), ("drops_column", 0)]
    assert len(walks) == 2


def test_what_there_was_no_time_for_is_read_by_the_next(shelf):
    """Only a plan that was read to its end is cached."""
    shelf.write("0002_a", "migrations.RemoveField('shelf', 'title')")
    shelf.write("0003_b", "migrations.RemoveField('shelf', 'code')")
    plan, migrations = make_plan(PlanRequest(targets=("testapp",)))
    assert read_changes(plan, migrations, budget=-1).unread == ("testapp.0003_b",)
    assert read_changes(plan, migrations).unread == ()
    assert read_changes(plan, migrations, budget=-1).unread == ()
