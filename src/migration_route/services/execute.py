"""Executes a run in this process, which a launcher has started."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager

from django.db import connections

from migration_route import signals as event_signals
from migration_route.core.enums import RunState
from migration_route.core.errors import ApprovalRequired
from migration_route.execution.launchers.forked import prepared_fork
from migration_route.execution.launchers.process import remove_log
from migration_route.execution.posix_signals import ShutdownSignals, handle_shutdown_signals
from migration_route.execution.preflight import (
    schedule_of_run,
    scheduled_wait,
    wait_until_due,
)
from migration_route.execution.recovery import reaper
from migration_route.execution.supervisor.child import Child
from migration_route.execution.supervisor.supervisor import supervise
from migration_route.ledger import claims, runs
from migration_route.ledger.queries import find_run
from migration_route.ledger.records import RunRecord
from migration_route.ledger.step_evidence import StepError
from migration_route.notifications.otel import traced
from migration_route.policy.schedule import NeverOpens, OpensLater
from migration_route.services.notifications import deliver_in_process

_SETTLE_TIMEOUT = 3.0  # seconds for receivers of signals before this process is replaced
Reexec = Callable[[str], None]
"""Continues in a new process, which owns the run by this claim token."""


def run_in_fork(verb: Callable[[list[str]], int]) -> AbstractContextManager[None]:
    """Let the process of a run that is created in this block be a fork of this process,
    made now, which calls `verb` with the words of its command line."""
    return prepared_fork(verb)


def execute(
    run: str, *, reexec: Reexec, claim: str = "", release_if_waiting: bool = False
) -> RunRecord:
    """Claim the run, wait until it may start, and execute it; return its final record.

    `claim` is the token with which the run was claimed for this process. With
    `release_if_waiting`, a run that may not start yet is released instead of waited for.
    Raises `InvalidState` when the run has started or another process has claimed it,
    `ApprovalRequired` when it waits for approval, `UnknownRun` when it does not exist.
    """
    token = claim or claims.new_claim_token()
    with handle_shutdown_signals() as signals:
        # Fork before connecting: a connection pool below Django keeps closed connections
        # open, and two processes would share them.
        child = Child()
        try:
            claimed = _claim(run, token)
            schedule = schedule_of_run(claimed)
            if isinstance(schedule, NeverOpens):
                return _refuse(claimed, schedule)
            if isinstance(schedule, OpensLater):
                child.kill()  # the process that starts the run forks its own worker
                is_due = _wait(
                    claimed, schedule, signals, release_if_waiting=release_if_waiting
                )
            else:
                with deliver_in_process(), traced(run):
                    return supervise(claimed, child, signals)
        finally:
            child.kill()
            found = find_run(run)
            if not found.is_active:
                remove_log(run)
            connections.close_all()
    if is_due:
        event_signals.settle(_SETTLE_TIMEOUT)
        reexec(token)
    return find_run(run)


def _claim(run: str, token: str) -> RunRecord:
    found = find_run(run)
    if found.state is RunState.AWAITING_APPROVAL:
        raise ApprovalRequired(
            f"Run {run} waits for approval.",
            hint="Approve it: the last required approval starts it.",
            run=run,
        )
    if found.claimed_by not in {"", token}:
        reaper.reap(found)  # the process that claimed it may be gone
    return claims.claim(run, token, host=socket.gethostname(), pid=os.getpid())


def _wait(
    run: RunRecord, later: OpensLater, signals: ShutdownSignals, *, release_if_waiting: bool
) -> bool:
    """Return whether the run is due, and this process still owns its claim."""
    waiting = runs.set_scheduled(run, scheduled_wait(later))
    if release_if_waiting:
        claims.release_claim(run.id, run.claimed_by)
        return False
    return wait_until_due(waiting, signals)


def _refuse(run: RunRecord, never: NeverOpens) -> RunRecord:
    """Fail a run that can no longer start."""
    error = StepError(type="WindowClosed", message=f"The run can never start. {never.why}")
    change = runs.Change(
        outcome="window_closed", error=error, only_if={"claimed_by": run.claimed_by}
    )
    expected = {RunState.QUEUED, RunState.WAITING}
    return runs.move(run.id, to=RunState.FAILED, expected=expected, change=change)
