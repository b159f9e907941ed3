"""What became of a run whose heart has stopped?

Whoever looks next finds out: the lock tells whether anybody is still at work, the
recorder what is applied. Nothing is guessed, and nothing is started again.
"""

from __future__ import annotations

import socket
import time

from django.db import Error as DatabaseFailure

from migration_route import processes
from migration_route.conf import route_settings
from migration_route.connecting import new_connection, own_connection, require_direct
from migration_route.errors import DatabaseUnavailable, NotInThisState, PoolerDetected
from migration_route.ledger import carriers, runs
from migration_route.ledger.fencing import ClaimLost
from migration_route.ledger.journal import Journal
from migration_route.ledger.reading import find_run, list_events, silence
from migration_route.ledger.records import RunRecord, StepError
from migration_route.planning.graph import read_recorder
from migration_route.running.launchers import is_patient
from migration_route.running.launchers.words import forget_words, has_ended, with_last_words
from migration_route.running.recovery.backend import Backend
from migration_route.running.recovery.carriers import START, look_after_carrier
from migration_route.running.recovery.evidence import with_evidence
from migration_route.running.recovery.orphans import Orphan
from migration_route.running.supervision.stopping import as_stopped
from migration_route.running.supervision.verdict import Told, verdict
from migration_route.vendors import vendor_of
from migration_route.vendors.interface import Slot
from migration_route.vocabulary import EventKind, RunState, StepState

_FLUSH = 10.0
_ALIVE = frozenset({RunState.WAITING, RunState.RUNNING, RunState.HELD, RunState.CANCELLING})
_LOSABLE = _ALIVE | {RunState.LOST}


def look_after(run: RunRecord) -> RunRecord:
    """Return the run as it truly is, concluding it when its processes are gone.

    A ledger or database that cannot be asked now leaves it as it is. What its process
    said outside of the record goes when the run has ended: a supervisor that is killed
    in its last moment cannot see to that.
    """
    if not run.is_active:
        forget_words(run.id)
        return run
    try:
        if run.waits_to_begin:
            return look_after_carrier(run)
        if run.state is RunState.QUEUED:
            return _look_after_queued(run)
        if run.state in _ALIVE and silence(run) > route_settings().lease:
            run = _lose(run)
        if run.state is RunState.LOST or _has_died_here(run):
            return _reconcile(run)
    except (NotInThisState, ClaimLost):
        return find_run(run.id)  # somebody else has just concluded it
    except (DatabaseFailure, DatabaseUnavailable, PoolerDetected):
        return run
    return run


def conclude_if_gone(run: RunRecord) -> RunRecord:
    """Return a run as it truly is, whatever its heart did last: it is concluded when
    nobody holds its locks."""
    is_losable = run.state in _LOSABLE and not run.waits_to_begin
    try:
        return _reconcile(run, was_ended=True) if is_losable else look_after(run)
    except (NotInThisState, ClaimLost):
        return find_run(run.id)


def _look_after_queued(run: RunRecord) -> RunRecord:
    """End a run whose process never came to begin it. Where runs lie until somebody
    comes for them, one that nobody has is only waiting."""
    lies = is_patient()
    is_gone = has_ended(run.id) and (bool(run.carrier) or not lies)
    if is_gone or (silence(run) > START and not lies):
        return _never_started(run)
    return look_after_carrier(run) if lies else run


def _never_started(run: RunRecord) -> RunRecord:
    message = "The process of this run could not start its work."
    error = StepError(type="LaunchFailed", message=with_last_words(message, run.id))
    change = runs.Change(outcome="launch_failed", error=error)
    ended = runs.move(run.id, to=RunState.FAILED, expected={RunState.QUEUED}, change=change)
    forget_words(run.id)
    return ended


def _lose(run: RunRecord) -> RunRecord:
    change = runs.Change(
        reason="The heartbeat of this run has stopped.",
        only_if={"carrier": run.carrier, "heartbeat_at": run.heartbeat_at},
    )
    return runs.move(run.id, to=RunState.LOST, expected=_ALIVE, change=change)


def _lose_now(run: RunRecord) -> RunRecord:
    """Make a run lost whose processes are known to be gone; return it, with what was
    asked beside the tables."""
    change = runs.Change(reason="The processes of this run are gone.")
    runs.move(run.id, to=RunState.LOST, expected=_ALIVE, change=change)
    return find_run(run.id)


def _reconcile(run: RunRecord, *, was_ended: bool = False) -> RunRecord:
    """Conclude a lost run, if nobody is at work for it any more. One whose process has
    died on this host is lost as soon as its lock is free."""
    require_direct(run.database)
    connection = new_connection(run.database)
    try:
        vendor = vendor_of(run.database)
        lock = vendor.lock(connection, Slot.SUPERVISOR)
        if not lock.try_acquire():
            return run  # its supervisor is only slow, or the next one has begun
        try:
            run = find_run(run.id)
            if run.state in _ALIVE and (was_ended or _has_died_here(run)):
                run = _lose_now(run)
            if run.state is not RunState.LOST:
                return run  # somebody else has concluded it while we came
            worker_lock = vendor.lock(connection, Slot.WORKER)
            if not worker_lock.try_acquire():
                return _waits_for_orphan(run)
            try:
                # Both locks are held until the run is concluded: a worker that comes back
                # cannot open a session before, and asks for its claim after.
                carriers.take_over(run)
                return _conclude(find_run(run.id))  # with what was asked beside the tables
            finally:
                worker_lock.release()
        finally:
            lock.release()
    finally:
        connection.close()


def _has_died_here(run: RunRecord) -> bool:
    """Tell whether the supervisor of a run was a process of this host that is gone."""
    return (
        run.state in _ALIVE
        and run.supervisor_pid is not None
        and run.host == socket.gethostname()
        and not processes.is_at_work(run.supervisor_pid, run.id)
    )


def _waits_for_orphan(run: RunRecord) -> RunRecord:
    backend = Backend(run.database)
    try:
        return Orphan(run.id, backend).tell()
    finally:
        backend.close()


def _conclude(run: RunRecord) -> RunRecord:
    """Compare the record with the recorder, under the lock."""
    error = StepError(
        type="Interrupted",
        message="The processes of this run ended before it had finished.",
    )
    with own_connection(run.database):
        recorded = read_recorder(run.database)
    with own_connection(route_settings().ledger_database):
        journal = Journal(run)
        current = _under_way(journal)
        told = Told(
            ending="done" if _was_concluded(run, journal) else None,
            current=current,
            touching=current is not None,
            error=error,
        )
        with own_connection(run.database):
            told = with_evidence(told, run, journal.steps, recorded)
        found = as_stopped(verdict(journal.steps, recorded, told), run.asked)
        if current is not None:
            journal.step(
                current, found.steps[current].state, error=found.steps[current].error
            )
        journal.event(EventKind.STATE, text=found.state, facts={"outcome": found.outcome})
        _flush(journal)
    change = runs.Change(
        outcome=found.outcome,
        error=found.error,
        steps=found.steps,
        vouching=journal.vouching,
        claim=run.carrier,
    )
    ended = runs.move(run.id, to=found.state, expected={RunState.LOST}, change=change)
    journal.close()
    forget_words(run.id)
    return ended


def _was_concluded(run: RunRecord, journal: Journal) -> bool:
    """Tell whether its supervisor had seen `migrate` come to its end, and all done: that
    is the last event on record."""
    last = list_events(run.id, after=journal.last - 1, limit=1)
    return any(
        event.kind == EventKind.STATE and event.text in {RunState.SUCCEEDED, RunState.NOOP}
        for event in last
    )


def _under_way(journal: Journal) -> int | None:
    states = [step.state for step in journal.steps]
    return states.index(StepState.APPLYING) if StepState.APPLYING in states else None


def _flush(journal: Journal) -> None:
    deadline = time.monotonic() + _FLUSH
    while not journal.flush():
        if time.monotonic() > deadline:
            raise DatabaseUnavailable("The ledger cannot be written.")
