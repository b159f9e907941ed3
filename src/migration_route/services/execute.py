"""Carry out a run, in this process: what a launcher starts."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from django.db import connections

from migration_route import signals as hearing
from migration_route.core.enums import RunState
from migration_route.core.errors import ApprovalRequired
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
from migration_route.ledger.evidence import StepError
from migration_route.ledger.queries import find_run
from migration_route.ledger.records import RunRecord
from migration_route.notifications.otel import traced
from migration_route.policy.schedule import NeverOpens, OpensLater
from migration_route.services.notifications import deliver_in_process

_AT_THE_END = 3.0  # seconds for receivers of signals, before this process is another
Reexec = Callable[[str], None]
"""Carries on in a new process, which takes the run by this word."""


def execute(
    run: str, *, anew: Reexec, carrier: str = "", hands_back: bool = False
) -> RunRecord:
    """Take the run, wait until it may begin, and carry it out; return it as it is then.

    `carrier` is the word by which it was taken for this process. With `hands_back`, one
    that may not begin yet is given back instead of waited for. Raises `NotInThisState`
    when it has begun or is another process's, `ApprovalRequired` when it waits for that,
    `UnknownRun` when there is none.
    """
    word = carrier or claims.new_claim_token()
    with handle_shutdown_signals() as signals:
        # Before anything is connected: a pool below Django keeps the connections that are
        # closed, and two processes would use them.
        child = Child()
        try:
            taken = _take(run, word)
            opening = schedule_of_run(taken)
            if isinstance(opening, NeverOpens):
                return _refuse(taken, opening)
            if isinstance(opening, OpensLater):
                child.kill()  # the process that begins has a worker of its own
                has_come = _wait(taken, opening, signals, hands_back=hands_back)
            else:
                with deliver_in_process(), traced(run):
                    return supervise(taken, child, signals)
        finally:
            child.kill()
            found = find_run(run)
            if not found.is_active:
                remove_log(run)
            connections.close_all()
    if has_come:
        hearing.settle(_AT_THE_END)
        anew(word)
    return find_run(run)


def _take(run: str, word: str) -> RunRecord:
    found = find_run(run)
    if found.state is RunState.AWAITING_APPROVAL:
        raise ApprovalRequired(
            f"Run {run} waits for approval.",
            hint="It is carried out when enough people have approved it.",
            run=run,
        )
    if found.carrier not in {"", word}:
        reaper.reap(found)  # whose process may be gone
    return claims.claim(run, word, host=socket.gethostname(), pid=os.getpid())


def _wait(
    run: RunRecord, later: OpensLater, signals: ShutdownSignals, *, hands_back: bool
) -> bool:
    """Return whether the opening has come, and the run is still this process's."""
    waiting = claims.set_scheduled(run, scheduled_wait(later))
    if hands_back:
        claims.release_claim(run.id, run.carrier)
        return False
    return wait_until_due(waiting, signals)


def _refuse(run: RunRecord, never: NeverOpens) -> RunRecord:
    """End a run that cannot begin any more."""
    error = StepError(type="WindowClosed", message=f"It can never begin. {never.why}")
    change = runs.Change(
        outcome="window_closed", error=error, only_if={"carrier": run.carrier}
    )
    expected = {RunState.QUEUED, RunState.WAITING}
    return runs.move(run.id, to=RunState.FAILED, expected=expected, change=change)
