"""Tests that the SQL of a plan is that of its run, and that planning executes none."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.db import connections, transaction
from django.db.migrations.recorder import MigrationRecorder

from migration_route.planning.plan import Details, Operation, PlanRequest, Step
from migration_route.planning.planner import make_plan
from migration_route.planning.sql import with_sql
from tests.factories import create_model, tables, vendor

FIELD = "migrations.AddField('A', 'size', models.IntegerField(null=True))"
INDEX = "migrations.AddIndex('A', models.Index(fields=['size'], name='a_size'))"


def told(target: str = "testapp") -> tuple[Step, ...]:
    """Return the steps of a plan with their SQL."""
    steps, more = told_part(Details(budget=30.0), target)
    assert more is None
    return steps


def told_part(
    details: Details, target: str = "testapp"
) -> tuple[tuple[Step, ...], int | None]:
    """Return the steps of a plan with the SQL of some, and where to continue."""
    plan, migrations = make_plan(PlanRequest(targets=(target,)))
    return with_sql(plan.steps, migrations, "default", details)


def sql_of(operation: Operation) -> tuple[str, ...]:
    """Return the statements of an operation; they must be known."""
    assert operation.sql is not None
    return operation.sql


def words(step: Step) -> str:
    """Return all SQL of a step."""
    return " ".join(s for operation in step.operations for s in operation.sql or ())


def test_each_operation_has_its_own_statements(history):
    """Statements are attributed to their own operation."""
    history.write("0001_a", create_model("A"), FIELD)
    (step,) = told()
    create, add = step.operations[:2]
    assert "CREATE TABLE" in sql_of(create)[0]
    assert "testapp_a" in sql_of(create)[0]
    assert "size" in " ".join(sql_of(add))
    assert "size" not in " ".join(sql_of(create))


def test_nothing_is_executed(history):
    """The planned table does not exist."""
    history.write("0001_a", create_model("A"))
    before = tables()
    told()
    assert tables() == before


WRITES = """
from django.db import connections

class Writes(migrations.operations.base.Operation):
    def state_forwards(self, app_label, state):
        pass

    def database_forwards(self, app_label, editor, before, after):
        {body}

    def describe(self):
        return "Write"
"""


@pytest.mark.parametrize(
    ("body", "sql"),
    [
        (
            "editor.connection.cursor().execute('UPDATE note SET text = %s', ['x'])",
            ("UPDATE note SET text = %s",),
        ),
        (
            "editor.connection.cursor().execute('CREATE TABLE note_2 (text text)')",
            ("CREATE TABLE note_2 (text text)",),
        ),
        (
            "editor.connection.cursor()"
            ".executemany('INSERT INTO note VALUES (%s)', [['x']])",
            ("INSERT INTO note VALUES (%s)",),
        ),
        (
            "before.apps.get_model('testapp', 'A').objects"
            ".using(editor.connection.alias).create()",
            None,
        ),
        (
            "connections['other'].cursor().execute('CREATE TABLE note_2 (text text)')",
            None,
        ),
        (
            "before.apps.get_model('testapp', 'A').objects.using('other').create()",
            None,
        ),
    ],
)
def test_what_an_operation_sends_itself_is_collected_and_not_executed(history, body, sql):
    """An operation need not send its statements through the schema editor."""
    history.write("0001_a", create_model("A"))
    call_command("migrate", "testapp", verbosity=0)
    with connections["default"].cursor() as cursor:
        cursor.execute("CREATE TABLE note (text text)")
        cursor.execute("INSERT INTO note VALUES ('a')")
    history.write("0002_b", "Writes()", head=WRITES.format(body=body))
    (step,) = told()
    (write,) = step.operations
    if sql is None and write.sql is not None:
        # SQLite returns no row for a statement that was not sent, which Django 6 accepts.
        assert (vendor(), "other" in body) == ("sqlite", False)
        assert "INSERT INTO" in write.sql[0]
    else:
        assert write.sql == sql
    assert "note_2" not in tables()
    assert "note_2" not in connections["other"].introspection.table_names()
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT text FROM note")
        assert list(cursor.fetchall()) == [("a",)]
        cursor.execute("SELECT count(*) FROM testapp_a")
        assert cursor.fetchone() == (0,)


def test_python_inside_of_another_operation_does_not_run(history):
    """Django's own `sqlmigrate` would run it."""
    history.write(
        "0001_a",
        "migrations.SeparateDatabaseAndState([migrations.RunPython(refuse)])",
        head="def refuse(apps, editor):\n    raise SystemExit",
    )
    (step,) = told()
    (python,) = step.operations
    assert (python.opaque, python.sql) == (True, ())


def test_a_later_step_stands_on_an_earlier_one(history):
    """A field is added to a table that exists only in the plan."""
    history.write("0001_a", create_model("A"))
    history.write("0002_b", FIELD, INDEX)
    first, second = told()
    assert "CREATE TABLE" in words(first)
    assert "a_size" in words(second)


def test_the_way_back_is_told_as_it_would_be_gone(history):
    """In the order of execution: the last operation first."""
    history.write("0001_a", create_model("A"), create_model("B"))
    MigrationRecorder(connections["default"]).record_applied("testapp", "0001_a")
    (step,) = told("testapp.zero")
    assert [operation.description for operation in step.operations][:2] == [
        "Create model B",
        "Create model A",
    ]
    assert "DROP TABLE" in sql_of(step.operations[0])[0]
    assert "testapp_b" in sql_of(step.operations[0])[0]


def test_what_python_does_stays_opaque(history):
    """It has no SQL, and is marked as opaque."""
    history.write("0001_a", "migrations.RunPython(migrations.RunPython.noop)")
    (step,) = told()
    assert step.operations[0].opaque
    assert not step.operations[0].sql


def test_what_is_written_as_sql_is_told_as_it_stands(history):
    """Verbatim."""
    history.table("0001_a", "made_a")
    (step,) = told()
    assert sql_of(step.operations[0])[0].startswith("CREATE TABLE made_a (id integer)")


def test_sql_that_cannot_be_told_is_missing_and_the_plan_stands(history):
    """An operation that fails without its database has no SQL."""
    history.write(
        "0001_a",
        "Odd('SELECT 1')",
        create_model("A"),
        head="class Odd(migrations.RunSQL):\n"
        "    def database_forwards(self, *args):\n"
        "        raise LookupError('not there yet')",
    )
    (step,) = told()
    assert step.operations[0].sql is None
    assert "CREATE TABLE" in sql_of(step.operations[1])[0]


def test_a_long_plan_is_told_piece_by_piece(history):
    """A plan of hundreds of steps is returned in time: each piece has at least one step,
    and the pieces together equal the whole."""
    history.write("0001_a", create_model("A"))
    history.write("0002_b", FIELD)
    history.write("0003_c", INDEX)
    pieces: list[Step] = []
    after: int | None = 0
    while after is not None:
        steps, more = told_part(Details(after=after, budget=-1.0))
        assert [step.name for step in steps] == ["0001_a", "0002_b", "0003_c"]
        known = [n for n, step in enumerate(steps) if step.operations[0].sql is not None]
        assert known == [after]
        pieces.append(steps[after])
        after = more
    assert tuple(pieces) == told()


def test_what_comes_at_the_end_of_a_migration_is_told(history):
    """Foreign keys and indexes are created after the tables."""
    key = "('a', models.ForeignKey('testapp.A', models.CASCADE))"
    history.write("0001_a", create_model("A"), create_model("B", key))
    (step,) = told()
    everything = words(step).upper()
    assert "REFERENCES" in everything or vendor() == "mysql"
    assert "FOREIGN KEY" in everything or vendor() == "sqlite"


def test_the_plan_of_the_real_apps_has_sql(database):
    """Also where most of it is applied: the state before the first step is correct."""
    recorder = MigrationRecorder(connections["default"])
    recorder.record_unapplied("testapp", "0003_fill_pages")
    recorder.record_unapplied("testapp", "0002_book_pages")
    try:
        first, second = told()
    finally:
        recorder.record_applied("testapp", "0002_book_pages")
        recorder.record_applied("testapp", "0003_fill_pages")
    assert "pages" in words(first)
    assert second.operations[0].opaque


def test_the_transaction_of_the_caller_is_left_alone(history):
    """A caller may be in a transaction."""
    history.write("0001_a", create_model("A"))
    with transaction.atomic():
        told()
        assert connections["default"].in_atomic_block
        assert not connections["default"].needs_rollback
