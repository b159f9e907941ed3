"""Tests of a step that stopped midway: resolved as applied, as reverted, or resumed."""

from __future__ import annotations

import pytest
from django.db import connections

from migration_route.core.enums import Resolution, RunState, Scope, StepState
from migration_route.core.errors import Forbidden, InvalidRequest, PlanChanged, Refused
from migration_route.ledger.queries import find_run, list_entries, unresolved_runs
from migration_route.ledger.verification import verify
from migration_route.planning.graph import read_recorder
from migration_route.services.approvals import approve, reject
from migration_route.services.resolve import resolve
from migration_route.vendors import vendor_of
from tests.execution.runs import begin, carried, events
from tests.factories import an_actor, create_model, tables, vendor

pytestmark = pytest.mark.slow

AUTHOR = create_model("Writer", "('name', models.CharField(max_length=20))")
BOOK = create_model(
    "Volume", "('author', models.ForeignKey('testapp.Writer', models.CASCADE))"
)
INDEX = "migrations.AddIndex('Writer', models.Index(fields=['name'], name='author_name'))"
SIZE = "migrations.AddField('Writer', 'size', models.IntegerField(null=True))"
NOT_ATOMIC = "atomic = False"

DIE_ONCE = """
def work(apps, schema_editor):
    import os, pathlib
    flag = pathlib.Path({flag!r})
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), 9)
"""
DIE_BEFORE_THE_DEFAULT_IS_DROPPED = """
import os, pathlib
from django.db import connection

flag = pathlib.Path({flag!r})
kind = connection.SchemaEditorClass
usual = kind.execute
def execute(self, sql, params=()):
    if "DROP DEFAULT" in str(sql) and not self.collect_sql and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), 9)
    return usual(self, sql, params)
kind.execute = execute
"""
DIE_IN_RECORDER = """
import os, pathlib
from django.db.migrations.recorder import MigrationRecorder

flag = pathlib.Path({flag!r})
for name in ("record_applied", "record_unapplied"):
    def wrapped(self, app, name, *, usual=getattr(MigrationRecorder, name)):
        if app == "testapp" and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), 9)
        usual(self, app, name)
    setattr(MigrationRecorder, name, wrapped)
"""


@pytest.fixture(autouse=True)
def _inline(project, settings):
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    project()


@pytest.fixture(autouse=True)
def _clean(history):
    """Drop the tables of the models: a table before those that it references."""
    yield
    for name in ("testapp_volume", "testapp_writer"):
        if name in tables():
            with connections["default"].cursor() as cursor:
                cursor.execute(f"DROP TABLE {name}")


def recorded() -> list[str]:
    """Return the recorded migrations of testapp."""
    return sorted(name for app, name in read_recorder("default") if app == "testapp")


def states(run) -> list[str]:
    """Return what is known of each operation of the last step."""
    return [found.state for found in run.steps[-1].operations or ()]


def dying(history, tmp_path, *operations, **words):
    """Write a migration with an operation `worker` that kills its worker the first time."""
    flag = str(tmp_path / "died")
    history.write("0001_a", *operations, head=DIE_ONCE.format(flag=flag), **words)


WORK = "migrations.RunPython(work, work)"


def test_a_step_that_was_killed_midway_is_resumed(history, tmp_path):
    """What is present is not executed again, deferred statements are."""
    dying(history, tmp_path, AUTHOR, BOOK, WORK, INDEX, SIZE, body=NOT_ATOMIC)
    run = carried("testapp")
    assert (run.state, run.steps[0].state) == (RunState.PARTIAL, StepState.PARTIAL)
    end = ["absent"] if states(run)[5:] else []
    assert states(run) == ["present", "present", "unknown", "absent", "absent", *end]
    with pytest.raises(Refused, match="it is unknown how far it got") as refused:
        resolve(run.id, an_actor(), reason="go on", how=Resolution.CONTINUE)
    assert refused.value.facts["operations"][2]["state"] == "unknown"
    assert unresolved_runs() == {"default": run.id}


def test_python_in_a_transaction_of_its_own_is_resumed(history, tmp_path):
    """It was not committed, so it counts as not executed."""
    work = "migrations.RunPython(work, work, atomic=True)"
    dying(history, tmp_path, AUTHOR, BOOK, work, INDEX, SIZE, body=NOT_ATOMIC)
    run = carried("testapp")
    assert states(run)[:5] == ["present", "present", "absent", "absent", "absent"]
    new = resolve(run.id, an_actor(), reason="go on", how=Resolution.CONTINUE)
    ended = find_run(new.id)
    assert ended.state is RunState.SUCCEEDED, ended.error
    assert ended.steps[0].done_operations == 2
    assert (found := find_run(run.id)).state is RunState.RESOLVED
    assert found.outcome == "resumed"
    assert recorded() == ["0001_a"]
    told = " ".join(event.text for event in events(ended))
    assert "author_name" in told
    assert not any(event.text.startswith("CREATE TABLE") for event in events(ended))
    connection = connections["default"]
    with connection.cursor() as cursor:
        get = connection.introspection.get_constraints
        book, author = get(cursor, "testapp_volume"), get(cursor, "testapp_writer")
    assert any(found["foreign_key"] for found in book.values())
    assert any(
        found["index"] and "author_id" in found["columns"] for found in book.values()
    )
    assert "author_name" in author
    assert verify().intact
    assert list_entries(before=None, limit=50)


def stopped_midway(history, tmp_path):
    """Return a run that stopped where it can be resumed."""
    work = "migrations.RunPython(work, work, atomic=True)"
    dying(history, tmp_path, AUTHOR, BOOK, work, INDEX, SIZE, body=NOT_ATOMIC)
    run = carried("testapp")
    assert run.state is RunState.PARTIAL
    return run


def ask_to_resume(run, settings, project):
    """Request a resumption that needs another user's approval; return the waiting run."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "APPROVALS": {}}
    project()
    new = resolve(run.id, an_actor(), reason="go on", how=Resolution.CONTINUE)
    assert (new.state, new.resumes) == (RunState.AWAITING_APPROVAL, run.id)
    assert unresolved_runs() == {"default": run.id}
    return new


def test_to_resume_waits_for_approval_as_well(history, tmp_path, settings, project):
    """The stopped run stays partial until another user has approved."""
    run = stopped_midway(history, tmp_path)
    new = ask_to_resume(run, settings, project)
    with pytest.raises(Forbidden):
        approve(new.id, an_actor())
    approve(new.id, an_actor(name="grace"))
    ended = find_run(new.id)
    assert ended.state is RunState.SUCCEEDED, ended.error
    assert ended.steps[0].done_operations == 2
    found = find_run(run.id)
    assert (found.state, found.outcome) == (RunState.RESOLVED, "resumed")
    assert recorded() == ["0001_a"]
    entry = next(e for e in list_entries(before=None, limit=50) if e.action == "resolved")
    assert (entry.run, entry.actor_name, entry.facts["resumed_by"]) == (
        run.id,
        "ada",
        new.id,
    )


def test_a_rejection_leaves_the_run_that_stopped_as_it_is(
    history, tmp_path, settings, project
):
    """The database stays blocked until it is resolved in another way."""
    run = stopped_midway(history, tmp_path)
    new = ask_to_resume(run, settings, project)
    reject(new.id, an_actor(name="grace"), reason="by hand, please")
    assert unresolved_runs() == {"default": run.id}


def test_what_was_resolved_in_another_way_meanwhile_is_not_resumed(
    history, tmp_path, settings, project
):
    """The approval is void: it was for another state."""
    run = stopped_midway(history, tmp_path)
    new = ask_to_resume(run, settings, project)
    resolve(run.id, an_actor(), reason="by hand", how=Resolution.AS_IS)
    with pytest.raises(PlanChanged, match="stale"):
        approve(new.id, an_actor(name="grace"))
    assert find_run(new.id).state is RunState.STALE
    assert recorded() == []


@pytest.mark.skipif(vendor() == "sqlite", reason="it needs no default in the table")
def test_a_column_whose_default_is_left_is_resumed(history, tmp_path):
    """The default is dropped, and later operations are executed."""
    rank = "migrations.AddField('Writer', 'rank', models.IntegerField(default=7))"
    text = DIE_BEFORE_THE_DEFAULT_IS_DROPPED.format(flag=str(tmp_path / "died"))
    history.write("0001_a", AUTHOR, rank, INDEX, head=text, body=NOT_ATOMIC)
    run = carried("testapp")
    assert states(run)[:3] == ["present", "partial", "absent"]
    new = resolve(run.id, an_actor(), reason="go on", how=Resolution.CONTINUE)
    ended = find_run(new.id)
    assert ended.state is RunState.SUCCEEDED, ended.error
    assert ended.steps[0].done_operations == 2
    connection = connections["default"]
    with connection.cursor() as cursor:
        reader = vendor_of("default").catalog
        assert not reader.defaults(cursor, "testapp_writer")
        get = connection.introspection.get_constraints
        assert "author_name" in get(cursor, "testapp_writer")
    assert recorded() == ["0001_a"]


@pytest.mark.parametrize(
    ("how", "outcome", "left"),
    [
        (Resolution.APPLIED, "recorded_applied", ["0001_a"]),
        (Resolution.AS_IS, "resolved", []),
    ],
)
def test_a_step_that_was_committed_and_not_recorded_is_partial(
    history, tmp_path, how, outcome, left
):
    """Django records after the commit where statements were deferred."""
    head = DIE_IN_RECORDER.format(flag=str(tmp_path / "died"))
    history.write("0001_a", AUTHOR, BOOK, head=head)
    run = carried("testapp")
    assert (run.state, run.outcome) == (RunState.PARTIAL, "partial"), run.error
    assert set(states(run)) == {"present"}
    assert recorded() == []
    with pytest.raises(Refused):
        resolve(run.id, an_actor(), reason="no", how=Resolution.REVERTED)
    found = resolve(run.id, an_actor(), reason="it is there", how=how)
    assert (found.state, found.outcome) == (RunState.RESOLVED, outcome)
    assert recorded() == left
    entry = list_entries(before=None, limit=1)[0]
    assert entry.facts["how"] == how
    assert {one["state"] for one in entry.facts["operations"]} == {"present"}
    assert verify().intact


def test_a_step_that_was_undone_and_is_still_recorded_is_partial(history, tmp_path):
    """Backwards, the record always comes after the commit."""
    flag = tmp_path / "died"
    flag.touch()
    history.write("0001_a", AUTHOR)
    history.write("0002_b", SIZE, head=DIE_IN_RECORDER.format(flag=str(flag)))
    assert carried("testapp").state is RunState.SUCCEEDED
    flag.unlink()
    run = carried("testapp.0001_a")
    assert run.state is RunState.PARTIAL, run.error
    assert set(states(run)) == {"present"}
    with pytest.raises(Refused):
        resolve(run.id, an_actor(), reason="no", how=Resolution.APPLIED)
    resolve(run.id, an_actor(), reason="gone", how=Resolution.REVERTED)
    assert recorded() == ["0001_a"]


def test_a_step_that_was_killed_in_its_transaction_has_failed(history, tmp_path):
    """It left nothing, and needs no resolution."""
    if vendor() == "mysql":
        pytest.skip("nothing is rolled back")
    dying(history, tmp_path, AUTHOR, BOOK, WORK)
    run = carried("testapp")
    assert (run.state, run.outcome) == (RunState.FAILED, "interrupted")
    assert set(states(run)) == {"absent"}
    assert carried("testapp").state is RunState.SUCCEEDED


def test_a_step_is_reverted_once_what_it_made_is_gone(history, tmp_path):
    """As long as something of it is present, the catalog contradicts."""
    dying(history, tmp_path, AUTHOR, WORK, INDEX, body=NOT_ATOMIC)
    run = carried("testapp")
    with pytest.raises(Refused, match="is present"):
        resolve(run.id, an_actor(), reason="no", how=Resolution.REVERTED)
    with pytest.raises(Refused, match="is absent"):
        resolve(run.id, an_actor(), reason="no", how=Resolution.APPLIED)
    with connections["default"].cursor() as cursor:
        cursor.execute("DROP TABLE testapp_writer")
    found = resolve(run.id, an_actor(), reason="dropped", how=Resolution.REVERTED)
    assert found.outcome == "recorded_reverted"
    assert carried("testapp").state is RunState.SUCCEEDED


def test_who_resumes_needs_the_right_to_apply(history, tmp_path):
    """And a reason, and the unchanged migration."""
    work = "migrations.RunPython(work, work, atomic=True)"
    dying(history, tmp_path, AUTHOR, work, INDEX, body=NOT_ATOMIC)
    run = carried("testapp")
    with pytest.raises(Forbidden):
        resolve(run.id, an_actor(Scope.RESOLVE), reason="x", how=Resolution.CONTINUE)
    with pytest.raises(InvalidRequest):
        resolve(run.id, an_actor(), reason=" ", how=Resolution.CONTINUE)
    path = history.folder / "0001_a.py"
    path.write_text(path.read_text() + "# changed\n")
    with pytest.raises((PlanChanged, Refused)):
        resolve(run.id, an_actor(), reason="x", how=Resolution.CONTINUE)
    assert find_run(run.id).state is RunState.PARTIAL
    with pytest.raises(Refused):
        begin("testapp")
