"""Tests that a run is executed by its own processes, and reports its end truthfully."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import django
import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.core.enums import Mode, RunState, StepState
from migration_route.core.errors import InvalidState, NeedsResolution
from migration_route.execution.launchers.process import log_path, start
from migration_route.execution.recovery.reaper import reap
from migration_route.ledger.queries import find_run, list_entries, unresolved_runs
from migration_route.ledger.verification import verify
from migration_route.planning.graph import read_recorder
from migration_route.services.control import cancel
from migration_route.services.resolve import resolve
from migration_route.vendors import vendor_of
from tests.execution.runs import Keeper, begin, carried, events, printed, until
from tests.factories import an_actor, make_table, tables, vendor
from tests.planning.test_sources import rewrite

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _inline(project, settings):
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    project()


@pytest.fixture
def kept(settings):
    """Accept a run without starting it."""
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "LAUNCHER": "tests.execution.runs.Keeper",
    }


def recorded() -> list[str]:
    """Return the recorded migrations of testapp."""
    return sorted(name for app, name in read_recorder("default") if app == "testapp")


def states(run) -> list[StepState]:
    return [step.state for step in run.steps]


def test_a_plan_is_carried_out_forwards_and_back(history):
    """Tables, recorder, steps, events and ledger agree."""
    history.table("0001_a", "made_a")
    history.table("0002_b", "made_b")
    run = carried("testapp")
    assert (run.state, run.outcome, run.error) == (RunState.SUCCEEDED, "applied", None)
    assert states(run) == [StepState.APPLIED] * 2
    assert tables() >= {"made_a", "made_b"}
    assert recorded() == ["0001_a", "0002_b"]
    assert run.started_at
    assert run.finished_at > run.started_at
    told = events(run)
    assert [event.number for event in told] == list(range(1, run.last_event + 1))
    kinds = [event.kind for event in told if event.kind.startswith(("step", "state"))]
    assert [kind for kind in kinds if kind.startswith("step")] == [
        "step_started",
        "step_finished",
    ] * 2
    assert any("CREATE TABLE made_a" in event.text for event in told)
    assert log_path(run.id) is None

    back = carried("testapp.0001_a")
    assert (back.state, back.outcome) == (RunState.SUCCEEDED, "reverted")
    assert states(back) == [StepState.REVERTED]
    assert "made_b" not in tables()
    assert recorded() == ["0001_a"]

    nothing = carried("testapp.0001_a")
    assert (nothing.state, nothing.outcome, nothing.steps) == (RunState.NOOP, "noop", ())
    assert verify().intact
    folder = vendor_of("default").sidecar(connections["default"])
    assert folder is None or not folder.exists()


def test_a_step_that_fails_is_rolled_back_where_the_database_can(history):
    """The step before it is applied, the one after it has not started, and a retry is
    safe."""
    history.table("0001_a", "made_a")
    history.write(
        "0002_b",
        "migrations.RunSQL('CREATE TABLE made_b (id integer)')",
        "migrations.RunSQL('INSERT INTO surely_not_there VALUES (1)')",
    )
    history.table("0003_c", "made_c")
    run = carried("testapp")
    can = vendor() != "mysql"
    assert run.state is (RunState.FAILED if can else RunState.PARTIAL)
    assert states(run) == [
        StepState.APPLIED,
        StepState.FAILED if can else StepState.PARTIAL,
        StepState.NOT_STARTED,
    ]
    assert ("made_b" in tables()) is not can
    assert recorded() == ["0001_a"]
    error = run.steps[1].error
    assert error is not None
    assert error.type in {"OperationalError", "ProgrammingError"}
    assert "surely_not_there" in error.message
    assert error.operation == 1
    codes = {"postgresql": "42P01", "mysql": "42S02", "sqlite": None}
    assert error.sqlstate == codes[vendor()]
    assert verify().intact


def test_a_step_that_cannot_be_rolled_back_blocks_runs_until_it_is_resolved(history):
    """No run starts on a partially migrated database; the resolution records a reason."""
    history.write(
        "0001_a",
        "migrations.RunSQL('CREATE TABLE made_a (id integer)')",
        "migrations.RunSQL('INSERT INTO surely_not_there VALUES (1)')",
        body="atomic = False",
    )
    run = carried("testapp")
    assert (run.state, states(run)) == (RunState.PARTIAL, [StepState.PARTIAL])
    assert "made_a" in tables()
    assert recorded() == []
    assert unresolved_runs() == {"default": run.id}
    with pytest.raises(NeedsResolution) as refused:
        begin("testapp")
    assert refused.value.facts["run"] == run.id
    resolved = resolve(run.id, an_actor(), reason="dropped by hand")
    assert resolved.state is RunState.RESOLVED
    assert unresolved_runs() == {}
    with pytest.raises(InvalidState):
        resolve(run.id, an_actor(), reason="again")


def test_a_step_that_ends_the_process_is_a_failure(history):
    """`sys.exit` is handled like any exception: the step is rolled back."""
    history.python("0001_a", "import sys\nprint('going')\nsys.exit(3)")
    run = carried("testapp")
    assert run.state is RunState.FAILED
    error = run.steps[0].error
    assert error is not None
    assert (error.type, error.message) == ("SystemExit", "3")
    assert error.sqlstate is None  # there is no database error
    assert "going" in printed(run)
    assert recorded() == []


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("import os\nos._exit(9)", "exited with status 9"),
        ("import os\nos.kill(os.getpid(), 9)", "killed by signal 9"),
        ("import os\nos.abort()", "killed by signal 6"),
    ],
    ids=["_exit", "SIGKILL", "abort"],
)
def test_a_worker_that_dies_is_told_as_it_died(history, code, how):
    """The supervisor reports truthfully, whatever a migration does to its process."""
    history.table("0001_a", "made_a")
    history.python("0002_b", code)
    run = carried("testapp")
    assert (run.state, run.outcome) == (RunState.FAILED, "interrupted")
    assert states(run) == [StepState.APPLIED, StepState.FAILED]
    assert run.error is not None
    assert how in run.error.message
    assert verify().intact
    assert lock_files() == []


def lock_files():
    """Return the lock files beside an SQLite database."""
    place = Path(str(connections["default"].settings_dict["NAME"]))
    return sorted(path.name for path in place.parent.glob(f"{place.name}.route-lock-*"))


def test_a_worker_that_dies_in_mid_sentence_is_told_as_it_died(history):
    """Killed while it wrote a message: the supervisor tolerates half a line in the pipe."""
    history.python(
        "0001_a",
        "import os, stat\n"
        "for fd in range(3, 64):\n"
        "    try:\n"
        "        if stat.S_ISFIFO(os.fstat(fd).st_mode):\n"
        '            os.write(fd, b\'{"kind":"output","te\')\n'
        "    except OSError:\n"
        "        pass\n"
        "os._exit(9)",
    )
    run = carried("testapp")
    assert (run.state, run.outcome) == (RunState.FAILED, "interrupted")
    assert run.error is not None
    assert "exited with status 9" in run.error.message


def test_everything_that_is_printed_is_kept_in_order(history):
    """By `print`, a logger, C or a child process, to both streams, and masked."""
    history.python(
        "0001_a",
        "import os, subprocess, sys\n"
        "for n in range(50):\n"
        "    print(f'line {n}')\n"
        "print('no newline', end='')\n"
        "print('err 1', file=sys.stderr)\n"
        "print('größer 数据 🚂')\n"
        "print('password=hunter2hunter2')\n"
        "for n in range(20):\n"
        "    os.write(1, f'raw {n}\\n'.encode())\n"
        "subprocess.run(['sh', '-c', 'echo child; echo child err >&2'])\n"
        "os.write(2, b'\\xff\\xfe raw bytes\\n')\n"
        "sys.stdout.buffer.write(b'buffered\\n')",
    )
    run = carried("testapp")
    assert run.state is RunState.SUCCEEDED, run.error
    out, err = printed(run), printed(run, "stderr")
    assert [line for line in out if line.startswith("line ")] == [
        f"line {n}" for n in range(50)
    ]
    assert [line for line in out if line.startswith("raw ")] == [
        f"raw {n}" for n in range(20)
    ]
    assert {"child", "buffered", "no newlinegrößer 数据 🚂"} <= set(out)
    assert "hunter2" not in "".join(text.text for text in events(run))
    assert {"err 1", "child err"} <= set(err)
    assert any("raw bytes" in line for line in err)
    assert any("testapp.0001_a" in line for line in out)  # the output of `migrate` itself


def test_a_file_that_changes_after_the_permit_stops_the_run(history, kept):
    """The plan is no longer the one that was read: no statement is sent."""
    history.table("0001_a", "made_a")
    path = history.table("0002_b", "made_b")
    run = begin("testapp")
    assert run.state is RunState.QUEUED
    rewrite(path, "CREATE TABLE made_b", "CREATE TABLE another")
    assert Keeper.kept is not None
    start(*Keeper.kept).wait()
    ended = find_run(run.id)
    assert (ended.state, ended.outcome) == (RunState.STALE, "plan_changed")
    assert states(ended) == [StepState.NOT_STARTED] * 2
    assert not {"made_a", "made_b", "another"} & tables()
    assert recorded() == []


def test_a_file_that_changes_before_its_step_stops_the_run_there(history):
    """The first step changes the second one's file: the second does not start."""
    history.table("0001_a", "made_a")
    path = history.folder / "0003_c.py"
    history.python(
        "0002_b", f"with open({str(path)!r}, 'a') as file:\n    file.write('# changed')"
    )
    history.table("0003_c", "made_c")
    run = carried("testapp")
    assert run.state is RunState.STALE
    assert recorded() == ["0001_a", "0002_b"]
    assert "made_c" not in tables()


def test_what_was_applied_after_the_permit_stops_the_run(history, kept):
    """A user ran `manage.py migrate` meanwhile."""
    history.table("0001_a", "made_a")
    begin("testapp")
    MigrationRecorder(connections["default"]).record_applied("testapp", "0001_a")
    assert Keeper.kept is not None
    permit, run = Keeper.kept
    start(permit, run).wait()
    assert find_run(run.id).state is RunState.STALE
    start(permit, run).wait()  # an ended run is never started again
    assert find_run(run.id).state is RunState.STALE
    assert "made_a" not in tables()


def test_a_step_is_faked_without_being_run(history):
    """It is recorded, and creates nothing."""
    history.table("0001_a", "made_a")
    run = carried("testapp", mode=Mode.FAKE)
    assert run.state is RunState.SUCCEEDED
    assert recorded() == ["0001_a"]
    assert "made_a" not in tables()


@pytest.fixture
def slow_history(history, project, settings, tmp_path):
    """Return a history whose second step waits for a file, run in the background."""
    flag, begun = tmp_path / "go on", tmp_path / "begun"
    history.table("0001_a", "made_a")
    history.python(
        "0002_b",
        "import pathlib, time\n"
        "print('waiting for the file')\n"
        f"pathlib.Path({str(begun)!r}).touch()\n"
        f"while not pathlib.Path({str(flag)!r}).exists():\n"
        "    time.sleep(0.02)",
    )
    history.table("0003_c", "made_c")
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "LAUNCHER": "process",
        "HEARTBEAT_TIMEOUT": "3s",
    }
    project()
    yield begun, flag
    flag.touch()


def ended(run):
    """Return the run when it has ended."""

    def look():
        found = find_run(run.id)
        return None if found.is_active else found

    return until(look, "the run has ended")


def test_a_cancelled_run_stops_in_the_middle_of_its_step(slow_history):
    """The current step is rolled back, the next one does not start."""
    begun, _ = slow_history
    run = begin("testapp")
    until(begun.exists, "the second step has begun")
    assert find_run(run.id).steps[1].state is StepState.APPLYING
    assert cancel(run.id, an_actor(), reason="enough").state is RunState.CANCELLING
    assert cancel(run.id, an_actor(), reason="enough").state is RunState.CANCELLING
    found = ended(run)
    assert (found.state, found.outcome) == (RunState.CANCELLED, "cancelled")
    assert states(found) == [StepState.APPLIED, StepState.FAILED, StepState.NOT_STARTED]
    assert found.error.type == "Cancelled"
    assert found.steps[1].error.type == "Cancelled"
    assert recorded() == ["0001_a"]
    with pytest.raises(InvalidState):
        cancel(run.id, an_actor(), reason="again")
    reasons = [entry.facts.get("reason") for entry in list_entries(before=None, limit=20)]
    assert "enough" in reasons
    assert verify().intact


def test_a_supervisor_that_is_killed_takes_its_worker_along(slow_history):
    """The next check finds the run, a free lock, and the recorder's state."""
    _, flag = slow_history
    run = begin("testapp")
    until(lambda: "waiting for the file" in printed(run), "its words are on record")
    supervisor = find_run(run.id).supervisor_pid
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    found = until(
        lambda: (look := reap(find_run(run.id))).is_active is False and look,
        "the run is concluded",
    )
    assert (found.state, found.outcome) == (RunState.FAILED, "interrupted")
    assert states(found) == [StepState.APPLIED, StepState.FAILED, StepState.NOT_STARTED]
    assert "waiting for the file" in printed(run)
    assert [event.number for event in events(run)] == list(range(1, found.last_event + 1))
    assert verify().intact
    flag.touch()
    time.sleep(0.3)
    assert recorded() == ["0001_a"]  # the worker did not continue unnoticed


def test_two_targets_are_carried_out_in_one_run(history):
    """Each has its own `migrate`."""
    history.table("0001_a", "made_a")
    history.table("0002_b", "made_b")
    targets = ("testapp.0001_a", "testapp")
    run = carried(*targets)
    assert run.state is RunState.SUCCEEDED
    assert [step.name for step in run.steps] == ["0001_a", "0002_b"]


@pytest.mark.skipif(
    django.VERSION < (6,), reason="Django does not go to a replaced migration"
)
def test_a_target_that_is_replaced_does_not_change_the_way_to_the_next(history):
    """Each `migrate` chooses again between a squashed migration and what it replaces."""
    for name, table in (("0001_a", "a"), ("0002_b", "b"), ("0003_c", "c"), ("0004_d", "d")):
        history.table(name, f"made_{table}")
    for name, after, letters in (
        ("0001_squashed_0002_b", None, ("a", "b")),
        ("0003_squashed_0004_d", "0002_b", ("c", "d")),
    ):
        replaced = [
            ("testapp", f"000{'abcd'.index(table) + 1}_{table}") for table in letters
        ]
        history.last = after
        history.write(
            name,
            *(make_table(f"made_{table}") for table in letters),
            body=f"replaces = {replaced!r}",
        )
    run = carried("testapp.0001_a", "testapp")
    assert (run.state, run.error) == (RunState.SUCCEEDED, None)
    assert [step.name for step in run.steps] == [
        "0001_a",
        "0002_b",
        "0003_squashed_0004_d",
    ]
    assert {"made_a", "made_b", "made_c", "made_d"} <= tables()
