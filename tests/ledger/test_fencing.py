"""Tests that a process whose run was taken over or concluded writes nothing more for it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, connections, transaction

from migration_route.conf.databases import using_private_connection
from migration_route.core import clock
from migration_route.core.enums import (
    Action,
    ControlRequest,
    EventKind,
    RunState,
    StepState,
)
from migration_route.core.errors import InvalidState
from migration_route.ledger import claims, runs
from migration_route.ledger.claims import ClaimLost, read_time, require_claim
from migration_route.ledger.queries import (
    find_run,
    heartbeat_age,
    list_entries,
    list_events,
)
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.runs import clear_control, update_paused, update_waiting
from migration_route.ledger.verification import verify
from migration_route.models import Run
from tests.factories import a_new_run, a_step_record, vendor

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def run() -> RunRecord:
    """Return a run that a process has claimed and started."""
    opened, _ = runs.create_run(a_new_run(steps=(a_step_record("0002_a"),)))
    claims.claim(opened.id, "a" * 32, host="one", pid=1)
    return runs.move(opened.id, to=RunState.RUNNING, expected={RunState.QUEUED})


def taken_over(run: RunRecord) -> RunRecord:
    """Take a run over as another host does that finds no heartbeat."""
    runs.move(run.id, to=RunState.LOST, expected={RunState.RUNNING})
    return claims.take_over(find_run(run.id))


def concluded(run: RunRecord) -> RunRecord:
    """Conclude a run as another host does."""
    return runs.move(run.id, to=RunState.FAILED, expected={RunState.RUNNING})


FENCES = [taken_over, concluded]


@pytest.mark.parametrize("fence", FENCES)
def test_a_fenced_process_writes_no_event_no_entry_and_no_row(run, fence):
    """The whole transaction is refused, and the ledger is what the other host wrote."""
    with using_private_connection("default"):
        journal = RunLog(run)
        journal.event(EventKind.OUTPUT, text="before")
        assert journal.flush()
        fence(run)
        row, lines = find_run(run.id), len(list_entries(before=None, limit=50))
        journal.event(EventKind.OUTPUT, text="after")
        journal.step(0, StepState.APPLYING)
        for _ in range(2):  # a repetition raises the same error
            with pytest.raises(ClaimLost):
                journal.flush()
    assert [event.text for event in list_events(run.id, after=0, limit=9)] == ["before"]
    assert find_run(run.id) == row
    assert len(list_entries(before=None, limit=50)) == lines
    assert verify().intact


@pytest.mark.parametrize("fence", FENCES)
@pytest.mark.parametrize(
    "write",
    [
        lambda run: update_waiting(run.id, run.claimed_by, {"a": 1}),
        lambda run: update_paused(run.id, run.claimed_by, {"a": 1}, ""),
        lambda run: clear_control(run.id, run.claimed_by, ControlRequest.PAUSE),
        lambda run: runs.move(
            run.id,
            to=RunState.PAUSED,
            expected=set(RunState),
            change=runs.Change(claim=run.claimed_by),
        ),
        lambda run: require_claim(run.id, run.claimed_by),
    ],
    ids=["waiting", "paused", "request", "state", "check"],
)
def test_every_other_write_of_a_fenced_process_is_refused(run, fence, write):
    """Every way of writing to the row checks the claim."""
    fence(run)
    row = find_run(run.id)
    with pytest.raises(ClaimLost):
        write(run)
    assert find_run(run.id) == row


def test_a_lost_run_is_still_its_process_s_until_it_is_taken_over(run):
    """A missing heartbeat proves nothing: the process may only have been slow."""
    runs.move(run.id, to=RunState.LOST, expected={RunState.RUNNING})
    with using_private_connection("default"):
        journal = RunLog(run)
        journal.event(EventKind.OUTPUT, text="still here")
        assert journal.flush()


def test_of_two_that_take_a_lost_run_over_one_does(run):
    """The second one finds another claim than the one it has read."""
    runs.move(run.id, to=RunState.LOST, expected={RunState.RUNNING})
    seen = find_run(run.id)
    first = claims.take_over(seen)
    with pytest.raises(InvalidState):
        claims.take_over(seen)
    assert find_run(run.id).claimed_by == first.claimed_by != run.claimed_by


def test_what_another_wrote_in_the_place_of_an_event_is_not_taken_for_a_lost_answer(run):
    """Positions are compared by digest: the same number is not the same event."""
    with using_private_connection("default"):
        journal = RunLog(run)
        other = RunLog(run)
        other.event(EventKind.OUTPUT, text="of another writer")
        assert other.flush()
        journal.event(EventKind.OUTPUT, text="mine")
        with pytest.raises(ClaimLost):
            journal.flush()
    texts = [event.text for event in list_events(run.id, after=0, limit=9)]
    assert texts == ["of another writer"]
    assert verify().intact


def test_nobody_takes_a_run_over_while_its_process_writes(run):
    """The row is locked from the check of the claim to the commit."""
    if vendor() == "sqlite":
        pytest.skip("a transaction locks the whole file")
    runs.move(run.id, to=RunState.LOST, expected={RunState.RUNNING})
    seen, done = find_run(run.id), threading.Event()

    def take() -> None:
        claims.take_over(seen)
        done.set()
        connections.close_all()

    other = threading.Thread(target=take)
    with using_private_connection("default"), transaction.atomic():
        journal = RunLog(run)
        journal.event(EventKind.OUTPUT, text="a")
        assert journal.flush()
        other.start()
        assert not done.wait(0.5)
    other.join(10)
    assert done.is_set()
    with using_private_connection("default"), pytest.raises(ClaimLost):
        journal.flush()


def test_an_entry_names_the_state_that_its_transition_replaced(run):
    """Also where another transition was committed after this one had read the row."""
    if vendor() == "sqlite":
        pytest.skip("a transaction locks the whole file")
    ends = threading.Event()

    def fail() -> None:
        runs.move(run.id, to=RunState.FAILED, expected=set(RunState))
        connections.close_all()
        ends.set()

    other = threading.Thread(target=fail)
    with using_private_connection("default"), transaction.atomic():
        change = runs.Change()
        runs.move_in_transaction(
            "default", run.id, RunState.CANCELLING, {RunState.RUNNING}, change
        )
        other.start()
        assert not ends.wait(0.5)
    other.join(10)
    entries = list_entries(before=None, limit=2)
    told = [(entry.facts["from"], entry.facts["to"]) for entry in entries]
    assert told == [("cancelling", "failed"), ("running", "cancelling")]


# --- time -------------------------------------------------------------------------------


def test_the_time_of_the_database_is_written_as_every_time_is():
    """It sorts with the others, and has microseconds."""
    now = read_time("default")
    assert clock.format_time(clock.parse_time(now)) == now
    assert abs(clock.parse_time(now) - datetime.now(UTC)) < timedelta(seconds=30)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_heartbeat_of_another_clock_does_not_keep_a_run_alive(run, hours):
    """One in the future proves as little as one in the past."""
    then = clock.format_time(datetime.now(UTC) + timedelta(hours=hours))
    Run.objects.filter(pk=run.id).update(heartbeat_at=then)
    assert heartbeat_age(find_run(run.id)) > timedelta(minutes=50)


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_host_whose_clock_is_wrong_writes_the_time_of_the_database(
    run, monkeypatch, hours
):
    """Heartbeats, events and entries have the time of the ledger, not of the host."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has no clock of its own")

    class Wrong(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(hours=hours)

    monkeypatch.setattr(clock, "datetime", Wrong)
    monkeypatch.setattr(clock, "_offset", timedelta(0))
    with using_private_connection("default"):
        read_time("default")
        journal = RunLog(run)
        journal.event(EventKind.OUTPUT, text="a")
        journal.step(0, StepState.APPLYING)
        assert journal.flush()
    monkeypatch.undo()
    assert heartbeat_age(find_run(run.id)) < timedelta(seconds=30)
    (event,) = list_events(run.id, after=0, limit=9)
    entry = next(
        one
        for one in list_entries(before=None, limit=9)
        if one.action == Action.STEP_STARTED
    )
    for at in (event.at, entry.at, find_run(run.id).heartbeat_at):
        assert abs(clock.parse_time(at) - datetime.now(UTC)) < timedelta(seconds=30)
