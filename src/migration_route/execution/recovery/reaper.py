"""Concludes runs whose processes are gone, and terminates what is left of them.

The next reader of a run whose heartbeat has stopped examines it: the lock shows whether a
process is still active, the recorder what is applied. Nothing is guessed, and a lost run is
never started again. A run that has not started and whose process is gone is not lost:
another process claims it.

A caller other than the supervisor can end a run through its database sessions, from any
host, and through its processes, on their own host.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from contextlib import closing, suppress
from datetime import timedelta

from django.db import Error as DatabaseFailure

from migration_route.conf import route_settings
from migration_route.conf.databases import (
    private_connection,
    require_session_connection,
    using_private_connection,
)
from migration_route.core import clock, subprocesses
from migration_route.core.enums import (
    SUCCESS_STATES,
    EventKind,
    RunState,
    StepState,
    WaitingReason,
)
from migration_route.core.errors import (
    DatabaseUnavailable,
    InvalidState,
    PoolerDetected,
    SessionOrphaned,
)
from migration_route.execution.launchers import is_pull_based, relauncher
from migration_route.execution.launchers.process import has_ended, remove_log, with_log_tail
from migration_route.execution.recovery.reconcile import collect_evidence
from migration_route.execution.supervisor.outcome import (
    WorkerReport,
    apply_cancellation,
    as_concluded,
    determine_outcome,
)
from migration_route.execution.supervisor.run_lock import LockHolder, try_lock
from migration_route.ledger import claims, runs
from migration_route.ledger.claims import ClaimLost
from migration_route.ledger.queries import find_run, heartbeat_age, list_events
from migration_route.ledger.records import EventRecord, RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.step_evidence import StepError
from migration_route.planning.graph import read_recorder
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot

logger = logging.getLogger("migration_route.execution")

START_TIMEOUT = timedelta(seconds=30)  # for a process to start, under load
_TRIES = 5  # to start a process for a run that is due
_LATE = timedelta(seconds=2)  # for a waiting process to notice that its run is due


def reap_claim(run: RunRecord) -> RunRecord:
    """Return a run that has not started, with a new process started for it if its own is
    gone. Raises `InvalidState` if another process has just done so."""
    if not _has_process(run):
        run = _relaunch(run)
    return with_claim_status(run)


def with_claim_status(run: RunRecord) -> RunRecord:
    """Return the run as its readers should see it: one that is not claimed says so."""
    if run.claimed_by or not is_pull_based():
        return run
    if run.state is RunState.QUEUED or (run.waits_to_begin and _is_late(run)):
        return claims.as_unclaimed(run, WaitingReason.NO_WORKER)
    return run


def _is_late(run: RunRecord) -> bool:
    return run.override_schedule or clock.age(run.waiting_until) > _LATE


def _has_process(run: RunRecord) -> bool:
    if not run.claimed_by:
        return heartbeat_age(run) <= START_TIMEOUT  # just requested or released
    if run.supervisor_pid is None:
        return heartbeat_age(run) <= START_TIMEOUT  # claimed for a process that is starting
    if run.host == socket.gethostname():
        return subprocesses.is_run_process(run.supervisor_pid, run.id)
    return heartbeat_age(run) <= route_settings().heartbeat_timeout


def _relaunch(run: RunRecord) -> RunRecord:
    """Revoke the claim of a run whose process is gone, and start another one."""
    tries = run.waiting_facts.get("tries", 0) + 1
    if run.waits_to_begin and _is_late(run) and tries > _TRIES:
        return _fail(run)
    if not run.claimed_by and is_pull_based():
        return run  # a worker will claim it
    if not runs.revoke_claim(run, tries=tries):
        return find_run(run.id)
    run = find_run(run.id)
    try:
        if again := relauncher():
            again(run)
    except Exception:  # a launcher of the project may raise anything
        logger.exception("Could not start a new process for run %s.", run.id)
    return run


def _fail(run: RunRecord) -> RunRecord:
    message = f"No process could start this run after {_TRIES} attempts."
    error = StepError(type="LaunchFailed", message=with_log_tail(message, run.id))
    change = runs.Change(
        outcome="launch_failed",
        error=error,
        only_if={"claimed_by": run.claimed_by, "heartbeat_at": run.heartbeat_at},
    )
    return runs.move(run.id, to=RunState.FAILED, expected={RunState.WAITING}, change=change)


_CAN_LEAVE_SESSION = frozenset(
    {
        RunState.WAITING,
        RunState.RUNNING,
        RunState.PAUSED,
        RunState.CANCELLING,
        RunState.LOST,
    }
)
_REASON = "The processes of the run are gone, but its database session is still active."


def record_orphan(
    run: RunRecord, session: LockHolder, *, claim: str | None = None
) -> RunRecord:
    """Record that the run is lost, and which session it left; return the run.

    Recorded once: a run that is already marked is left as it is. `claim` is that of the
    run's own process; None for any other.
    """
    found = find_run(run.id)
    if found.waiting_reason == WaitingReason.ORPHANED_SESSION:
        return found
    described = session.describe()
    change = runs.Change(
        waiting_reason=WaitingReason.ORPHANED_SESSION,
        waiting_facts={"session": described.to_dict()} if described else {},
        reason=_REASON,
        claim=claim,
    )
    with suppress(InvalidState):  # another process recorded or concluded it
        return runs.move(
            run.id, to=RunState.LOST, expected=_CAN_LEAVE_SESSION, change=change
        )
    return find_run(run.id)


_FLUSH = 10.0
_ALIVE = frozenset(
    {RunState.WAITING, RunState.RUNNING, RunState.PAUSED, RunState.CANCELLING}
)
_LOSABLE = _ALIVE | {RunState.LOST}


def reap(run: RunRecord) -> RunRecord:
    """Return the run in its true state, concluding it when its processes are gone.

    If the ledger or the database does not answer, the run is returned as it is. The log
    file of its process is removed when the run has ended: a supervisor that is killed at
    the end cannot do that.
    """
    if not run.is_active:
        remove_log(run.id)
        return run
    try:
        if run.waits_to_begin:
            return reap_claim(run)
        if run.state is RunState.QUEUED:
            return _reap_queued(run)
        if run.state in _ALIVE and heartbeat_age(run) > route_settings().heartbeat_timeout:
            run = _lose(run)
        if run.state is RunState.LOST or _has_died_here(run):
            return _reconcile(run)
    except (InvalidState, ClaimLost):
        return find_run(run.id)  # another process has just concluded it
    except (DatabaseFailure, DatabaseUnavailable, PoolerDetected):
        return run
    return run


def reap_now(run: RunRecord) -> RunRecord:
    """Return the run in its true state, whatever its heartbeat: it is concluded when its
    locks are free."""
    is_losable = run.state in _LOSABLE and not run.waits_to_begin
    try:
        return _reconcile(run, was_ended=True) if is_losable else reap(run)
    except (InvalidState, ClaimLost):
        return find_run(run.id)


def _reap_queued(run: RunRecord) -> RunRecord:
    """End a run whose process never started it. With a pull-based launcher, a run that is
    not claimed is only waiting."""
    waits_for_worker = is_pull_based()
    is_gone = has_ended(run.id) and (bool(run.claimed_by) or not waits_for_worker)
    if is_gone or (heartbeat_age(run) > START_TIMEOUT and not waits_for_worker):
        return _never_started(run)
    return reap_claim(run) if waits_for_worker else run


def _never_started(run: RunRecord) -> RunRecord:
    message = "The process of this run failed to start."
    error = StepError(type="LaunchFailed", message=with_log_tail(message, run.id))
    change = runs.Change(outcome="launch_failed", error=error)
    ended = runs.move(run.id, to=RunState.FAILED, expected={RunState.QUEUED}, change=change)
    remove_log(run.id)
    return ended


def _lose(run: RunRecord) -> RunRecord:
    change = runs.Change(
        reason="The heartbeat of this run has stopped.",
        only_if={"claimed_by": run.claimed_by, "heartbeat_at": run.heartbeat_at},
    )
    return runs.move(run.id, to=RunState.LOST, expected=_ALIVE, change=change)


def _lose_now(run: RunRecord) -> RunRecord:
    """Mark a run lost whose processes are known to be gone; return it, with the control
    requests from the spool."""
    change = runs.Change(reason="The processes of this run are gone.")
    runs.move(run.id, to=RunState.LOST, expected=_ALIVE, change=change)
    return find_run(run.id)


def _reconcile(run: RunRecord, *, was_ended: bool = False) -> RunRecord:
    """Conclude a lost run if no process or session is active for it. A run whose process
    has died on this host is lost as soon as its lock is free."""
    require_session_connection(run.database)
    vendor = vendor_of(run.database)
    with (
        closing(private_connection(run.database)) as connection,
        try_lock(vendor.lock(connection, LockSlot.SUPERVISOR)) as is_free,
    ):
        if not is_free:
            return run  # its supervisor is only slow, or the next one has started
        run = find_run(run.id)
        if run.state in _ALIVE and (was_ended or _has_died_here(run)):
            run = _lose_now(run)
        if run.state is not RunState.LOST:
            return run  # another process concluded it meanwhile
        with try_lock(vendor.lock(connection, LockSlot.WORKER)) as has_no_session:
            if not has_no_session:
                with closing(LockHolder(run.database)) as session:
                    return record_orphan(run, session)
            # Both locks are held until the run is concluded: a worker that continues cannot
            # open a session before, and has lost its claim after.
            claims.take_over(run)
            return _conclude(find_run(run.id))  # with the control requests from the spool


def _has_died_here(run: RunRecord) -> bool:
    """Return whether the supervisor of a run was a process of this host that is gone."""
    return (
        run.state in _ALIVE
        and run.supervisor_pid is not None
        and run.host == socket.gethostname()
        and not subprocesses.is_run_process(run.supervisor_pid, run.id)
    )


def _conclude(run: RunRecord) -> RunRecord:
    """Compare the record with the recorder, under the lock."""
    error = StepError(
        type="Interrupted",
        message="The processes of this run ended before it had finished.",
    )
    with using_private_connection(run.database):
        recorded = read_recorder(run.database)
    with using_private_connection(route_settings().ledger_database):
        run_log = RunLog(run)
        _flush(run_log)  # with what its supervisor left in the spool
        concluded = _conclusion(run, run_log)
        current = _under_way(run_log)
        is_done = concluded is not None and concluded.text in SUCCESS_STATES
        report = WorkerReport(
            ending="done" if is_done else None,
            current=current,
            touching=current is not None,
            error=error,
        )
        with using_private_connection(run.database):
            report = collect_evidence(report, run, run_log.steps, recorded)
        outcome = apply_cancellation(
            determine_outcome(run_log.steps, recorded, report), run.control_request
        )
        if concluded is not None and not is_done:
            outcome = as_concluded(
                outcome,
                state=RunState(concluded.text),
                why=concluded.facts["outcome"],
                step=None if current is None else run_log.steps[current],
                position=current,
            )
        if current is not None:
            run_log.step(
                current, outcome.steps[current].state, error=outcome.steps[current].error
            )
        run_log.event(
            EventKind.STATE, text=outcome.state, facts={"outcome": outcome.outcome}
        )
        _flush(run_log)
    change = runs.Change(
        outcome=outcome.outcome,
        error=outcome.error,
        steps=outcome.steps,
        entry_facts=run_log.entry_facts,
        claim=run.claimed_by,
    )
    ended = runs.move(run.id, to=outcome.state, expected={RunState.LOST}, change=change)
    run_log.close()
    remove_log(run.id)
    return ended


def _flush(run_log: RunLog) -> None:
    if not clock.wait_until(run_log.flush, within=_FLUSH, pause=_PAUSE):
        raise DatabaseUnavailable("The ledger cannot be written.")


def _conclusion(run: RunRecord, run_log: RunLog) -> EventRecord | None:
    """Return the event with which the supervisor recorded the outcome; None if it did not
    get that far. Only the loss of its lock can be recorded after it."""
    latest = list_events(run.id, after=max(run_log.last - 2, 0), limit=2)
    return next(
        (
            event
            for event in reversed(latest)
            if event.kind == EventKind.STATE and "outcome" in event.facts
        ),
        None,
    )


def _under_way(run_log: RunLog) -> int | None:
    """Return the position of the step that was under way, or that stopped the run."""
    for position, step in enumerate(run_log.steps):
        if step.state in {StepState.APPLYING, StepState.PARTIAL, StepState.FAILED}:
            return position
    return None


_SESSION = 10.0  # seconds for a session to end
_SUPERVISOR = 4.0  # seconds for a supervisor to record how its run ended
_PAUSE = 0.1


def terminate_orphan(run: RunRecord) -> RunRecord:
    """Terminate the session that a lost run left, and return the run afterwards.

    Raises `SessionOrphaned` if the session does not end.
    """
    _end_session(run, LockSlot.WORKER)
    return _concluded(run.id, within=_SUPERVISOR)


def force_stop(run: RunRecord) -> RunRecord:
    """Kill the worker of a run and terminate its session; then its supervisor too, if it
    does not record how the run ended. Return the run afterwards.

    Raises `SessionOrphaned` if a session does not end.
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
    with closing(LockHolder(run.database, slot)) as session:
        if not session.end(within=_SESSION):
            found = session.describe()
            raise SessionOrphaned(
                f"The session of run {run.id} was terminated but has not ended.",
                run=run.id,
                **(found.to_dict() if found else {}),
            )


def _concluded(run: str, *, within: float) -> RunRecord:
    """Return the run when it has ended, or as it is after so many seconds."""
    deadline = time.monotonic() + within
    while True:
        found = reap(find_run(run))
        if not found.is_active or time.monotonic() > deadline:
            return found
        time.sleep(_PAUSE)
