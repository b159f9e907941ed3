"""What became of a run whose heart has stopped?

Whoever looks next finds out: the lock tells whether anybody is still at work, the
recorder what is applied. Nothing is guessed, and nothing is started again.
"""

from __future__ import annotations

import time
from datetime import timedelta

from django.db import Error as DatabaseFailure

from migration_route.conf import route_settings
from migration_route.connecting import new_connection, own_connection
from migration_route.errors import DatabaseUnavailable, NotInThisState
from migration_route.ledger import runs
from migration_route.ledger.journal import Journal
from migration_route.ledger.reading import find_run, silence
from migration_route.ledger.records import RunRecord, StepError
from migration_route.planning.graph import read_recorder
from migration_route.running.evidence import with_evidence
from migration_route.running.launchers import forget_words, last_words
from migration_route.running.verdict import Told, verdict
from migration_route.vendors import vendor_of
from migration_route.vendors.interface import Slot
from migration_route.vocabulary import EventKind, RunState, StepState, WaitingReason

_START = timedelta(seconds=30)  # for a process to be up, on a machine under load
_FLUSH = 10.0
_ALIVE = frozenset({RunState.WAITING, RunState.RUNNING, RunState.CANCELLING})


def look_after(run: RunRecord) -> RunRecord:
    """Return the run as it truly is, concluding it when its processes are gone.

    A ledger or database that cannot be asked now leaves it as it is.
    """
    try:
        if run.state is RunState.QUEUED and silence(run) > _START:
            return _never_started(run)
        if run.state in _ALIVE and silence(run) > route_settings().lease:
            run = _lose(run)
        if run.state is RunState.LOST:
            return _reconcile(run)
    except NotInThisState:
        return find_run(run.id)  # somebody else has just concluded it
    except (DatabaseFailure, DatabaseUnavailable):
        return run
    return run


def _never_started(run: RunRecord) -> RunRecord:
    words = last_words(run.id)
    error = StepError(
        type="LaunchFailed",
        message=f"The process of this run never began its work. {words}".strip(),
    )
    change = runs.Change(outcome="launch_failed", error=error)
    ended = runs.move(run.id, to=RunState.FAILED, expected={RunState.QUEUED}, change=change)
    forget_words(run.id)
    return ended


def _lose(run: RunRecord) -> RunRecord:
    change = runs.Change(reason="The heart of this run has stopped.")
    return runs.move(run.id, to=RunState.LOST, expected=_ALIVE, change=change)


def _reconcile(run: RunRecord) -> RunRecord:
    """Conclude a lost run, if nobody is at work for it any more."""
    connection = new_connection(run.database)
    try:
        vendor = vendor_of(run.database)
        lock = vendor.lock(connection, Slot.SUPERVISOR)
        if not lock.try_acquire():
            return run  # its supervisor is only slow, or the next one has begun
        try:
            run = find_run(run.id)
            if run.state is not RunState.LOST:
                return run  # somebody else has concluded it while we came
            worker_lock = vendor.lock(connection, Slot.WORKER)
            if not worker_lock.try_acquire():
                return _waits_for_orphan(run)
            worker_lock.release()
            return _conclude(run)
        finally:
            lock.release()
    finally:
        connection.close()


def _waits_for_orphan(run: RunRecord) -> RunRecord:
    if run.waiting_reason == WaitingReason.ORPHAN_BACKEND:
        return run
    change = runs.Change(waiting_reason=WaitingReason.ORPHAN_BACKEND)
    return runs.move(run.id, to=RunState.LOST, expected={RunState.LOST}, change=change)


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
            ending=None,
            current=current,
            touching=current is not None,
            error=error,
            lost=True,
        )
        with own_connection(run.database):
            told = with_evidence(told, run, journal.steps, recorded)
        found = verdict(journal.steps, recorded, told)
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
    )
    ended = runs.move(run.id, to=found.state, expected={RunState.LOST}, change=change)
    journal.close()
    forget_words(run.id)
    return ended


def _under_way(journal: Journal) -> int | None:
    states = [step.state for step in journal.steps]
    return states.index(StepState.APPLYING) if StepState.APPLYING in states else None


def _flush(journal: Journal) -> None:
    deadline = time.monotonic() + _FLUSH
    while not journal.flush():
        if time.monotonic() > deadline:
            raise DatabaseUnavailable("The ledger cannot be written.")
