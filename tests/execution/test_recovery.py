"""Tests of runs without a heartbeat, which are concluded from the lock and the recorder."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.conf.databases import private_connection, using_private_connection
from migration_route.core.clock import format_time
from migration_route.core.enums import EventKind, RunState, StepState
from migration_route.core.errors import ActiveRun
from migration_route.execution.launchers.process import log_path, open_log, remove_log
from migration_route.execution.recovery.reaper import reap
from migration_route.ledger import runs
from migration_route.ledger.queries import find_run, list_entries, list_events
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.spool import RunSpool
from migration_route.ledger.step_evidence import StepError
from migration_route.ledger.verification import verify
from migration_route.models import Run
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot
from tests.factories import a_new_run, a_step_record, at_once, vendor, written_by_another

pytestmark = pytest.mark.usefixtures("history")

STEPS = (a_step_record("0001_a"), a_step_record("0002_b"))


def still_since(run: str, seconds: float) -> RunRecord:
    """Make the last heartbeat of a run that old, and return the run."""
    then = format_time(datetime.now(UTC) - timedelta(seconds=seconds))
    Run.objects.filter(pk=run).update(heartbeat_at=then)
    return find_run(run)


def running(
    *, rolls_back: bool = True, seconds: float = 60, begun: int | None = None
) -> RunRecord:
    """Return a run whose processes have ended, within the step that `begun` names."""
    steps = tuple(a_step_record(step.name, rolls_back=rolls_back) for step in STEPS)
    opened, _ = runs.create_run(a_new_run(steps=steps))
    run = runs.move(opened.id, to=RunState.RUNNING, expected={RunState.QUEUED})
    if begun is not None:
        with using_private_connection("default"):
            journal = RunLog(run)
            for position in range(begun):
                journal.step(position, StepState.APPLIED, duration_ms=1)
            journal.event(EventKind.STEP_STARTED, step=begun)
            journal.step(begun, StepState.APPLYING)
            assert journal.flush()
    return still_since(opened.id, seconds)


def record(*names: str) -> None:
    """Record migrations as applied."""
    for name in names:
        MigrationRecorder(connections["default"]).record_applied("testapp", name)


@contextmanager
def held(slot: LockSlot) -> Iterator[None]:
    """Hold a lock as a live process does."""
    connection = private_connection("default")
    lock = vendor_of("default").lock(connection, slot)
    assert lock.try_acquire()
    try:
        yield
    finally:
        lock.release()
        connection.close()


def test_a_queued_run_is_given_time_to_begin():
    """A process takes a while to start."""
    run, _ = runs.create_run(a_new_run())
    assert reap(still_since(run.id, 20)).state is RunState.QUEUED


def test_a_queued_run_whose_process_has_died_here_has_failed_at_once():
    """The lock on its file shows that it has ended, without waiting half a minute."""
    run, _ = runs.create_run(a_new_run())
    with open_log(run.id) as words:
        process = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=words
        )
    try:
        assert reap(run).state is RunState.QUEUED
        process.kill()
        process.wait()
        found = reap(run)
    finally:
        process.kill()
        process.communicate()
        remove_log(run.id)
    assert (found.state, found.outcome) == (RunState.FAILED, "launch_failed")


_TRACEBACK = """Traceback (most recent call last):
  File "manage.py", line 1, in <module>
KeyError: 'x'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "manage.py", line 2, in <module>
    import nothing
ImportError: no module; password=hunter2hunter2
sys:1: ResourceWarning: a file was left open
"""


def test_a_run_that_never_began_has_failed_with_the_last_words_of_its_process():
    """The error says why it could not start, without secrets."""
    run, _ = runs.create_run(a_new_run())
    with open_log(run.id) as words:
        os.write(words, _TRACEBACK.encode())
    try:
        found = reap(still_since(run.id, 40))
    finally:
        remove_log(run.id)
    assert (found.state, found.outcome) == (RunState.FAILED, "launch_failed")
    assert found.error is not None
    assert found.error.message.startswith("ImportError: no module")
    assert "hunter2" not in found.error.message
    assert log_path(run.id) is None


@pytest.mark.parametrize(
    "state", [RunState.WAITING, RunState.RUNNING, RunState.PAUSED, RunState.CANCELLING]
)
def test_a_run_whose_heart_beats_is_left_alone(state):
    """It is not examined before its heartbeat timeout."""
    run, _ = runs.create_run(a_new_run())
    runs.move(run.id, to=state, expected={RunState.QUEUED})
    before = still_since(run.id, 10)
    assert reap(before) == before


@pytest.mark.parametrize(
    "state", [RunState.WAITING, RunState.RUNNING, RunState.PAUSED, RunState.CANCELLING]
)
def test_a_run_that_had_not_begun_a_step_has_failed(state):
    """The lock is free, nothing is recorded, nothing was changed."""
    run, _ = runs.create_run(a_new_run(steps=STEPS))
    runs.move(run.id, to=state, expected={RunState.QUEUED})
    found = reap(still_since(run.id, 60))
    assert (found.state, found.outcome) == (RunState.FAILED, "interrupted")
    assert [step.state for step in found.steps] == [StepState.NOT_STARTED] * 2
    assert runs.create_run(a_new_run())[1]


def test_a_run_that_has_everything_recorded_may_lack_what_comes_at_the_end():
    """All is applied, and the run says so; permissions, for example, are created after
    that."""
    run = running(begun=1, rolls_back=False)
    record("0001_a", "0002_b")
    found = reap(run)
    assert (found.state, found.outcome) == (RunState.FAILED, "interrupted")
    assert found.error is not None
    assert "Apply again" in found.error.message
    assert [step.state for step in found.steps] == [StepState.APPLIED] * 2


def test_a_run_whose_supervisor_had_seen_its_good_end_has_succeeded():
    """Only the last update of its row is missing."""
    run = running(begun=1, rolls_back=False)
    record("0001_a", "0002_b")
    with using_private_connection("default"):
        journal = RunLog(find_run(run.id))
        journal.event(
            EventKind.STATE, text=RunState.SUCCEEDED, facts={"outcome": "applied"}
        )
        assert journal.flush()
    found = reap(still_since(run.id, 60))
    assert (found.state, found.outcome) == (RunState.SUCCEEDED, "applied")
    assert [step.state for step in found.steps] == [StepState.APPLIED] * 2


@pytest.mark.parametrize(
    ("state", "outcome", "step"),
    [
        (RunState.PARTIAL, "partial", StepState.PARTIAL),
        (RunState.FAILED, "lock_timeout", StepState.FAILED),
        (RunState.CANCELLED, "cancelled", StepState.NOT_STARTED),
    ],
)
@pytest.mark.parametrize("lost_lock", [False, True])
def test_the_outcome_that_a_supervisor_recorded_before_it_died_is_kept(
    state, outcome, step, lost_lock
):
    """It knew what the worker had reported, which nobody else does."""
    run = running(begun=1, rolls_back=False)
    record("0001_a")
    why = StepError(type="OperationalError", message="refused")
    error = None if step is StepState.NOT_STARTED else why
    with using_private_connection("default"):
        journal = RunLog(find_run(run.id))
        journal.step(1, step, error=error)
        journal.event(EventKind.STATE, text=state, facts={"outcome": outcome})
        if lost_lock:
            journal.event(EventKind.LOCK_LOST, text="at the end")
        assert journal.flush()
    found = reap(still_since(run.id, 60))
    assert (found.state, found.outcome, found.error) == (state, outcome, error)
    assert [one.state for one in found.steps] == [StepState.APPLIED, step]
    assert found.steps[1].error == error


def test_a_step_that_is_recorded_by_now_is_applied_whatever_its_supervisor_said():
    run = running(begun=1, rolls_back=False)
    with using_private_connection("default"):
        journal = RunLog(find_run(run.id))
        journal.step(1, StepState.PARTIAL)
        journal.event(EventKind.STATE, text=RunState.PARTIAL, facts={"outcome": "partial"})
        assert journal.flush()
    record("0001_a", "0002_b")
    found = reap(still_since(run.id, 60))
    assert [one.state for one in found.steps] == [StepState.APPLIED] * 2
    assert found.state is RunState.FAILED  # what migrate does at its end may be missing


@pytest.mark.parametrize(
    ("rolls_back", "state", "step"),
    [
        (True, RunState.FAILED, StepState.FAILED),
        (False, RunState.PARTIAL, StepState.PARTIAL),
    ],
)
def test_a_run_in_mid_step_is_what_the_database_makes_of_it(rolls_back, state, step):
    """Rolled back, it has failed; otherwise a user has to resolve it."""
    run = running(begun=1, rolls_back=rolls_back)
    record("0001_a")
    found = reap(run)
    assert found.state is state
    assert [one.state for one in found.steps] == [StepState.APPLIED, step]
    assert found.error is not None
    assert found.error.type == "Interrupted"
    assert find_run(run.id) == found
    moves = [e.facts["to"] for e in list_entries(before=None, limit=20) if "to" in e.facts]
    assert moves[:2] == [state, RunState.LOST]
    assert list_events(run.id, after=0, limit=10)[-1].text == state
    assert verify().intact


def test_a_run_whose_supervisor_holds_the_lock_is_lost_not_ended():
    """It may only be slow: nothing is assumed, and no other run starts."""
    run = running(begun=0)
    with held(LockSlot.SUPERVISOR):
        found = reap(run)
        assert found.state is RunState.LOST
        assert reap(found).state is RunState.LOST
        with pytest.raises(ActiveRun):
            runs.create_run(a_new_run())
    assert reap(found).state is RunState.FAILED


def test_a_session_that_its_run_left_blocks_new_runs():
    """The worker's session is still active in the database; the reason is reported."""
    run = running(begun=0)
    with held(LockSlot.WORKER):
        found = reap(run)
        assert (found.state, found.waiting_reason) == (RunState.LOST, "orphaned_session")
        assert found.waiting_facts["session"]["pid"]
        count = len(list_entries(before=None, limit=50))
        assert reap(found) == found
        assert len(list_entries(before=None, limit=50)) == count  # reported once
    assert reap(found).state is RunState.FAILED


def of_this_host(run: RunRecord, pid: int) -> RunRecord:
    """Set a process of this host as the supervisor of a run."""
    Run.objects.filter(pk=run.id).update(host=socket.gethostname(), supervisor_pid=pid)
    return find_run(run.id)


def test_a_run_whose_process_has_died_here_is_concluded_before_its_lease_is_over():
    """Unless its lock is still held: then it was another process."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    run = of_this_host(running(begun=0, seconds=0), process.pid)
    with held(LockSlot.SUPERVISOR):
        assert reap(run) == run
    found = reap(run)
    assert (found.state, found.outcome) == (RunState.FAILED, "interrupted")


def test_a_process_that_has_got_its_number_since_is_not_its_own():
    """The pid is ours, and this process is not a supervisor."""
    run = of_this_host(running(begun=0, seconds=0), os.getpid())
    assert reap(run).state is RunState.FAILED


def test_a_run_that_was_cancelled_before_it_was_lost_is_cancelled():
    """Nothing is half done, and the cancel was requested."""
    run = running(begun=1)
    record("0001_a")
    Run.objects.filter(pk=run.id).update(control_request="cancel")
    found = reap(find_run(run.id))
    assert (found.state, found.outcome) == (RunState.CANCELLED, "cancelled")


def test_of_many_that_look_one_concludes():
    """Six at once: all read the same end, and it is written once."""
    run = running(begun=0)
    found = at_once(6, lambda _: reap(find_run(run.id)))
    assert {type(answer) for answer in found} == {RunRecord}, found
    last = reap(find_run(run.id))
    assert last.state is RunState.FAILED
    ends = [e for e in list_entries(before=None, limit=50) if e.facts.get("to") == "failed"]
    assert len(ends) == 1
    assert verify().intact


def test_a_run_that_has_ended_is_not_looked_after():
    """However old its last heartbeat is."""
    run, _ = runs.create_run(a_new_run())
    runs.move(run.id, to=RunState.PARTIAL, expected={RunState.QUEUED})
    before = still_since(run.id, 10_000)
    assert reap(before) == before


def test_what_the_process_of_an_ended_run_said_goes():
    """A supervisor that is killed at its end leaves the file behind."""
    run, _ = runs.create_run(a_new_run())
    with open_log(run.id):
        assert reap(run).state is RunState.QUEUED
    assert log_path(run.id) is not None
    reap(runs.move(run.id, to=RunState.SUCCEEDED, expected={RunState.QUEUED}))
    assert log_path(run.id) is None


def test_a_ledger_that_cannot_be_written_leaves_the_run_as_it_is():
    """Another migration holds the file: the next check concludes."""
    if vendor() != "sqlite":
        pytest.skip("only SQLite has one writer")
    run, _ = runs.create_run(a_new_run())
    run = still_since(run.id, 60)
    with written_by_another():
        assert reap(run) == run
    assert reap(run).state is RunState.FAILED


def test_what_a_dead_supervisor_left_beside_the_file_is_part_of_the_story():
    """Its last events are neither lost nor doubled, however many checks run."""
    if vendor() != "sqlite":
        pytest.skip("only SQLite has a folder beside it")
    run = running(begun=0, seconds=0)
    with written_by_another(), using_private_connection("default", patience=0.05):
        journal = RunLog(run)
        journal.event(EventKind.OUTPUT, text="the last words")
        assert not journal.flush()
    folder = vendor_of("default").sidecar(connections["default"])
    assert folder is not None
    (path,) = folder.glob("run-*.jsonl")
    os.utime(path, (1, 1))
    with held(LockSlot.SUPERVISOR):
        assert reap(still_since(run.id, 60)).state is RunState.LOST
    assert reap(find_run(run.id)).state is RunState.FAILED
    told = [event.text for event in list_events(run.id, after=0, limit=10)]
    assert told == ["", "the last words", "failed"]
    assert not folder.exists()
    assert verify().intact


def test_a_run_that_was_asked_to_stop_beside_the_file_and_died_is_concluded():
    """It was cancelled while it held the file, and killed before it could respond."""
    if vendor() != "sqlite":
        pytest.skip("only SQLite has a folder beside it")
    run = running(begun=0)
    folder = vendor_of("default").sidecar(connections["default"])
    assert folder is not None
    file = RunSpool(folder, run.id)
    file.beat()
    file.ask("cancel")
    os.utime(folder / f"run-{run.id}.jsonl", (1, 1))
    try:
        assert not reap(find_run(run.id)).is_active
        assert runs.create_run(a_new_run())[1]
        assert not folder.exists()
    finally:
        file.remove(at_the_end=True)
