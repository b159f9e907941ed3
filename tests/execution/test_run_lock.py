"""Tests that a lock lost during a run is noticed, and taken again."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connections

from migration_route.conf.databases import private_connection
from migration_route.core.enums import RunState, StepState
from migration_route.ledger.queries import find_run, list_entries
from migration_route.ledger.verification import verify
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot
from tests.execution.runs import begin, events, until
from tests.factories import tables, vendor

pytestmark = pytest.mark.slow


@pytest.fixture
def waiting(history, settings, project, tmp_path):
    """Start a run of three steps whose second one waits; return the run, and the file that
    lets it continue. Its lock is checked three times a second."""
    begun, flag = tmp_path / "begun", tmp_path / "flag"
    history.table("0001_a", "made_a")
    history.python(
        "0002_b",
        "import pathlib, time\n"
        f"pathlib.Path({str(begun)!r}).touch()\n"
        f"while not pathlib.Path({str(flag)!r}).exists():\n"
        "    time.sleep(0.02)",
    )
    history.table("0003_c", "made_c")
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "HEARTBEAT_TIMEOUT": "1s"}
    project()
    run = begin("testapp")
    until(begun.exists, "the second step has begun")
    return run, flag


def ended(run):
    """Wait for the end of a run, without recovering it."""

    def look():
        found = find_run(run.id)
        return None if found.is_active else found

    return until(look, "the run has ended")


def told(run):
    """Return, for each reported loss of the lock, whether it was taken again."""
    return [
        event.facts["taken_again"] for event in events(run) if event.kind == "lock_lost"
    ]


def lose() -> None:
    """Make the supervisor lose its lock."""
    if vendor() == "sqlite":
        database = Path(connections["default"].settings_dict["NAME"]).resolve()
        database.with_name(f"{database.name}.route-lock-1").unlink(missing_ok=True)
        return
    connection = connections["default"]
    session = vendor_of("default").lock(connection, LockSlot.SUPERVISOR).holder()
    if session is not None:
        vendor_of("default").sessions(connection).end(session)


def test_a_lost_lock_is_taken_again(waiting):
    """The server ends the session: the run continues with a new one, and reports it."""
    run, flag = waiting
    lose()
    if vendor() != "sqlite":  # its events are written when the step has ended
        until(lambda: told(run) == [False, True], "the loss is on record")
    connection = private_connection("default")
    lock = vendor_of("default").lock(connection, LockSlot.SUPERVISOR)
    until(lambda: not tried(lock), "the lock is held again")
    connection.close()
    flag.touch()
    found = ended(run)
    assert (found.state, found.outcome) == (RunState.SUCCEEDED, "applied")
    assert told(run) == [False, True]
    lines = list_entries(before=None, limit=30)
    lost = [entry for entry in lines if entry.action == "lock_lost"]
    assert [entry.facts["taken_again"] for entry in lost] == [True, False]
    assert verify().intact


def tried(lock):
    """Return whether the lock was free; it is released at once."""
    return bool(lock.try_acquire() and lock.release())


def test_without_its_lock_a_run_begins_no_further_step(waiting):
    """Another process has taken the lock: the current step ends, the next does not
    start."""
    run, flag = waiting
    connection = private_connection("default")
    lock = vendor_of("default").lock(connection, LockSlot.SUPERVISOR)

    def is_taken():
        """Take the lock; if the supervisor was faster, make it lose the lock once more."""
        if lock.try_acquire():
            return True
        lose()
        return False

    until(is_taken, "somebody else has taken it")
    flag.touch()
    found = ended(run)
    lock.release()
    connection.close()
    assert (found.state, found.outcome) == (RunState.FAILED, "failed")
    assert found.error is not None
    assert found.error.type == "LockLost"
    assert [step.state for step in found.steps] == [
        StepState.APPLIED,
        StepState.APPLIED,
        StepState.NOT_STARTED,
    ]
    assert "made_c" not in tables()
    assert told(run)[-1] is False
    assert verify().intact
