"""What became of a run whose heart has stopped?

Whoever looks next finds out: the lock tells whether anybody is still at work, the
recorder what is applied. Nothing is guessed, and nothing is started again.

Has a run that has not begun a process that will begin it?

One whose process is gone has done nothing, and is not lost: another process takes it up.

What is known of a session that went on in the database when its worker was gone?

How does somebody who is not its supervisor bring a run to an end? By its sessions in
the database, from anywhere, and by its processes, on their own host.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from contextlib import suppress
from datetime import timedelta

from django.db import Error as DatabaseFailure

from migration_route.conf import route_settings
from migration_route.conf.databases import (
    private_connection,
    require_session_connection,
    using_private_connection,
)
from migration_route.core import clock, subprocesses
from migration_route.core.enums import EventKind, RunState, StepState, WaitingReason
from migration_route.core.errors import (
    DatabaseUnavailable,
    InvalidState,
    PoolerDetected,
    SessionOrphaned,
)
from migration_route.execution.launchers import is_pull_based, relauncher
from migration_route.execution.launchers.process import has_ended, remove_log, with_log_tail
from migration_route.execution.recovery.reconcile import collect_evidence
from migration_route.execution.recovery.sessions import LockHolder
from migration_route.execution.supervisor.cancellation import apply_cancellation
from migration_route.execution.supervisor.outcome import WorkerReport, determine_outcome
from migration_route.ledger import claims, runs
from migration_route.ledger.evidence import StepError
from migration_route.ledger.fencing import ClaimLost
from migration_route.ledger.queries import find_run, heartbeat_age, list_events
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.planning.graph import read_recorder
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot

logger = logging.getLogger("migration_route.execution")

START = timedelta(seconds=30)  # for a process to be up, under load
_TRIES = 5  # to start a process for a run whose opening has come
_LATE = timedelta(seconds=2)  # for a carrier to notice that an opening has come


def reap_claim(run: RunRecord) -> RunRecord:
    """Return a run that has not begun as it is, with a new process on its way where its
    own is gone. Raises `NotInThisState` when somebody else has just seen to it."""
    if not _is_carried(run):
        run = _take_up(run)
    return with_claim_status(run)


def with_claim_status(run: RunRecord) -> RunRecord:
    """Return it as its readers should see it: one that nobody has taken says so."""
    if run.carrier or not is_pull_based():
        return run
    if run.state is RunState.QUEUED or (run.waits_to_begin and _is_late(run)):
        return claims.as_unclaimed(run, WaitingReason.CARRIER)
    return run


def _is_late(run: RunRecord) -> bool:
    return run.in_spite or clock.age(run.waiting_until) > _LATE


def _is_carried(run: RunRecord) -> bool:
    if not run.carrier:
        return heartbeat_age(run) <= START  # it has just been asked for, or been let go
    if run.supervisor_pid is None:
        return heartbeat_age(run) <= START  # taken for a process that is on its way
    if run.host == socket.gethostname():
        return subprocesses.is_run_process(run.supervisor_pid, run.id)
    return heartbeat_age(run) <= route_settings().lease


def _take_up(run: RunRecord) -> RunRecord:
    """Let another process take a run up whose own is gone."""
    tries = run.waiting_facts.get("tries", 0) + 1
    if run.waits_to_begin and _is_late(run) and tries > _TRIES:
        return _fail(run)
    if not run.carrier and is_pull_based():
        return run  # somebody will come for it
    if not claims.revoke_claim(run, tries=tries):
        return find_run(run.id)
    run = find_run(run.id)
    try:
        if again := relauncher():
            again(run)
    except Exception:  # a launcher of the project raises what it likes
        logger.exception("No new process for run %s could be started.", run.id)
    return run


def _fail(run: RunRecord) -> RunRecord:
    message = f"No process could begin this run, {_TRIES} times."
    error = StepError(type="LaunchFailed", message=with_log_tail(message, run.id))
    change = runs.Change(
        outcome="launch_failed",
        error=error,
        only_if={"carrier": run.carrier, "heartbeat_at": run.heartbeat_at},
    )
    return runs.move(run.id, to=RunState.FAILED, expected={RunState.WAITING}, change=change)


_LEFT = frozenset(
    {
        RunState.WAITING,
        RunState.RUNNING,
        RunState.HELD,
        RunState.CANCELLING,
        RunState.LOST,
    }
)
_REASON = "Its processes are gone; its session in the database is still at work."


class OrphanedSession:
    """The session of a run that is lost."""

    def __init__(self, run: str, backend: LockHolder, *, claim: str | None = None) -> None:
        """`claim` is that of the run's own process; None for anybody else."""
        self._run = run
        self._backend = backend
        self._claim = claim

    def tell(self) -> RunRecord:
        """Put on record that the run is lost, and which session it left; return it.

        Told once: a run that says so already is left as it is.
        """
        found = find_run(self._run)
        if found.waiting_reason == WaitingReason.ORPHAN_BACKEND:
            return found
        session = self._backend.describe()
        change = runs.Change(
            waiting_reason=WaitingReason.ORPHAN_BACKEND,
            waiting_facts={"session": session.to_dict()} if session else {},
            reason=_REASON,
            claim=self._claim,
        )
        with suppress(InvalidState):  # somebody else has told it, or concluded it
            return runs.move(self._run, to=RunState.LOST, expected=_LEFT, change=change)
        return find_run(self._run)


_FLUSH = 10.0
_ALIVE = frozenset({RunState.WAITING, RunState.RUNNING, RunState.HELD, RunState.CANCELLING})
_LOSABLE = _ALIVE | {RunState.LOST}


def reap(run: RunRecord) -> RunRecord:
    """Return the run as it truly is, concluding it when its processes are gone.

    A ledger or database that cannot be asked now leaves it as it is. What its process
    said outside of the record goes when the run has ended: a supervisor that is killed
    in its last moment cannot see to that.
    """
    if not run.is_active:
        remove_log(run.id)
        return run
    try:
        if run.waits_to_begin:
            return reap_claim(run)
        if run.state is RunState.QUEUED:
            return _look_after_queued(run)
        if run.state in _ALIVE and heartbeat_age(run) > route_settings().lease:
            run = _lose(run)
        if run.state is RunState.LOST or _has_died_here(run):
            return _reconcile(run)
    except (InvalidState, ClaimLost):
        return find_run(run.id)  # somebody else has just concluded it
    except (DatabaseFailure, DatabaseUnavailable, PoolerDetected):
        return run
    return run


def reap_now(run: RunRecord) -> RunRecord:
    """Return a run as it truly is, whatever its heart did last: it is concluded when
    nobody holds its locks."""
    is_losable = run.state in _LOSABLE and not run.waits_to_begin
    try:
        return _reconcile(run, was_ended=True) if is_losable else reap(run)
    except (InvalidState, ClaimLost):
        return find_run(run.id)


def _look_after_queued(run: RunRecord) -> RunRecord:
    """End a run whose process never came to begin it. Where runs lie until somebody
    comes for them, one that nobody has is only waiting."""
    lies = is_pull_based()
    is_gone = has_ended(run.id) and (bool(run.carrier) or not lies)
    if is_gone or (heartbeat_age(run) > START and not lies):
        return _never_started(run)
    return reap_claim(run) if lies else run


def _never_started(run: RunRecord) -> RunRecord:
    message = "The process of this run could not start its work."
    error = StepError(type="LaunchFailed", message=with_log_tail(message, run.id))
    change = runs.Change(outcome="launch_failed", error=error)
    ended = runs.move(run.id, to=RunState.FAILED, expected={RunState.QUEUED}, change=change)
    remove_log(run.id)
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
    require_session_connection(run.database)
    connection = private_connection(run.database)
    try:
        vendor = vendor_of(run.database)
        lock = vendor.lock(connection, LockSlot.SUPERVISOR)
        if not lock.try_acquire():
            return run  # its supervisor is only slow, or the next one has begun
        try:
            run = find_run(run.id)
            if run.state in _ALIVE and (was_ended or _has_died_here(run)):
                run = _lose_now(run)
            if run.state is not RunState.LOST:
                return run  # somebody else has concluded it while we came
            worker_lock = vendor.lock(connection, LockSlot.WORKER)
            if not worker_lock.try_acquire():
                return _waits_for_orphan(run)
            try:
                # Both locks are held until the run is concluded: a worker that comes back
                # cannot open a session before, and asks for its claim after.
                claims.take_over(run)
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
        and not subprocesses.is_run_process(run.supervisor_pid, run.id)
    )


def _waits_for_orphan(run: RunRecord) -> RunRecord:
    backend = LockHolder(run.database)
    try:
        return OrphanedSession(run.id, backend).tell()
    finally:
        backend.close()


def _conclude(run: RunRecord) -> RunRecord:
    """Compare the record with the recorder, under the lock."""
    error = StepError(
        type="Interrupted",
        message="The processes of this run ended before it had finished.",
    )
    with using_private_connection(run.database):
        recorded = read_recorder(run.database)
    with using_private_connection(route_settings().ledger_database):
        journal = RunLog(run)
        current = _under_way(journal)
        told = WorkerReport(
            ending="done" if _was_concluded(run, journal) else None,
            current=current,
            touching=current is not None,
            error=error,
        )
        with using_private_connection(run.database):
            told = collect_evidence(told, run, journal.steps, recorded)
        found = apply_cancellation(
            determine_outcome(journal.steps, recorded, told), run.asked
        )
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
    remove_log(run.id)
    return ended


def _was_concluded(run: RunRecord, journal: RunLog) -> bool:
    """Tell whether its supervisor had seen `migrate` come to its end, and all done: that
    is the last event on record."""
    last = list_events(run.id, after=journal.last - 1, limit=1)
    return any(
        event.kind == EventKind.STATE and event.text in {RunState.SUCCEEDED, RunState.NOOP}
        for event in last
    )


def _under_way(journal: RunLog) -> int | None:
    states = [step.state for step in journal.steps]
    return states.index(StepState.APPLYING) if StepState.APPLYING in states else None


def _flush(journal: RunLog) -> None:
    deadline = time.monotonic() + _FLUSH
    while not journal.flush():
        if time.monotonic() > deadline:
            raise DatabaseUnavailable("The ledger cannot be written.")


_SESSION = 10.0  # seconds for a session to go
_SUPERVISOR = 4.0  # seconds for a supervisor to say how its run ended
_PAUSE = 0.1


def terminate_orphan(run: RunRecord) -> RunRecord:
    """End the session that a lost run left, and return the run as that leaves it.

    Raises `OrphanBackend` where the session does not go.
    """
    _end_session(run, LockSlot.WORKER)
    return _concluded(run.id, within=_SUPERVISOR)


def force_stop(run: RunRecord) -> RunRecord:
    """Kill the worker of a run and end its session; then its supervisor too, if that
    does not say how the run ended. Return the run as that leaves it.

    Raises `OrphanBackend` where a session does not go.
    """
    _kill(run, run.worker_pid)
    _end_session(run, LockSlot.WORKER)
    found = _concluded(run.id, within=_SUPERVISOR)
    if found.is_active:
        _kill(run, run.supervisor_pid)
        _end_session(run, LockSlot.SUPERVISOR)
        found = reap_now(found)
    return found


def _kill(run: RunRecord, pid: int | None) -> None:
    is_here = run.host == socket.gethostname()
    if pid is not None and is_here and subprocesses.is_run_process(pid, run.id):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _end_session(run: RunRecord, slot: LockSlot) -> None:
    backend = LockHolder(run.database, slot)
    try:
        if not backend.end(within=_SESSION):
            found = backend.describe()
            raise SessionOrphaned(
                f"The session of run {run.id} was told to end, and is still there.",
                run=run.id,
                **(found.to_dict() if found else {}),
            )
    finally:
        backend.close()


def _concluded(run: str, *, within: float) -> RunRecord:
    """Return the run when it has ended, or as it is after so many seconds."""
    deadline = time.monotonic() + within
    while True:
        found = reap(find_run(run))
        if not found.is_active or time.monotonic() > deadline:
            return found
        time.sleep(_PAUSE)
