"""Claims of runs that have not started.

A process claims a run with its own token, in one compare-and-set on the row: of two
processes, one succeeds. Until the run is `running`, another process may claim it when the
first one is gone, because no work was done yet.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

from django.db.models import Q

from migration_route.conf import route_settings
from migration_route.conf.databases import ledger_connection, ledger_transaction
from migration_route.core.enums import SCHEDULE_REASONS, RunState
from migration_route.core.errors import InvalidState, UnknownRun
from migration_route.ledger import runs
from migration_route.ledger.database_time import DatabaseNow
from migration_route.ledger.records import RunRecord, run_record
from migration_route.ledger.runs import WaitInfo
from migration_route.models import Run

_NOT_STARTED = Q(state=RunState.QUEUED) | Q(
    state=RunState.WAITING, waiting_reason__in=SCHEDULE_REASONS
)
_LONG_AGO = "1970-01-01T00:00:00.000000Z"


def new_claim_token() -> str:
    """Return a random token with which a process claims runs."""
    return secrets.token_hex(16)


def claim(run: str, word: str, *, host: str, pid: int | None) -> RunRecord:
    """Claim a run that has not started and is unclaimed, or claimed by this token.

    Raises `InvalidState` when another process has claimed it or it has started;
    `UnknownRun`.
    """
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        rows = Run.objects.using(alias).filter(pk=run)
        free = rows.filter(_NOT_STARTED, claimed_by__in=["", word])
        taken = free.update(
            claimed_by=word, host=host, supervisor_pid=pid, heartbeat_at=DatabaseNow()
        )
        row = rows.first()
    if row is None:
        raise UnknownRun(f"Run {run!r} does not exist.")
    if not taken:
        is_taken = _waits_to_start(run_record(row)) and row.claimed_by
        owner = f" and claimed by a process on {row.host!r}" if is_taken else ""
        raise InvalidState(f"Run {run} is {row.state}{owner}.", run=run, state=row.state)
    return run_record(row)


def heartbeat(run: str, word: str) -> RunRecord | None:
    """Record a heartbeat of a run that waits to start.

    Returns None when the run is no longer claimed by this token, or no longer waits.
    """
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        rows = Run.objects.using(alias).filter(_NOT_STARTED, pk=run, claimed_by=word)
        rows.update(heartbeat_at=DatabaseNow())
        row = rows.first()
    return None if row is None else run_record(row)


def set_scheduled(run: RunRecord, waiting: WaitInfo) -> RunRecord:
    """Make a claimed run wait for its scheduled start, with the reason and the time.

    Raises `InvalidState` when the claim has changed.
    """
    before = WaitInfo(
        reason=run.waiting_reason,  # type: ignore[arg-type]
        until=run.waiting_until,
        facts=run.waiting_facts,
    )
    if run.waits_to_begin and before == waiting:
        return run
    change = runs.Change(
        waiting_reason=waiting.reason,
        waiting_until=waiting.until,
        waiting_facts=waiting.facts,
        only_if={"claimed_by": run.claimed_by},
    )
    return runs.move(
        run.id,
        to=RunState.WAITING,
        expected={RunState.QUEUED, RunState.WAITING},
        change=change,
    )


def release_claim(run: str, word: str) -> None:
    """Release the claim of a run that waits to start: any process may claim it next."""
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        rows = Run.objects.using(alias).filter(_NOT_STARTED, pk=run, claimed_by=word)
        rows.update(claimed_by="", supervisor_pid=None, heartbeat_at=_LONG_AGO)


def revoke_claim(run: RunRecord, *, tries: int) -> bool:
    """Revoke the claim of a process that is gone.

    Of several concurrent callers, one succeeds and gets True.
    """
    facts: dict[str, Any] = {**run.waiting_facts, "tries": tries}
    change = runs.Change(
        reason="The process of this run is gone; another process may claim it.",
        waiting_reason=run.waiting_reason,
        waiting_until=run.waiting_until,
        waiting_facts=facts if run.waits_to_begin else {},
        columns={"claimed_by": "", "supervisor_pid": None},
        only_if={
            "claimed_by": run.claimed_by,
            "heartbeat_at": run.heartbeat_at,
            "waiting_reason": run.waiting_reason,
        },
    )
    try:
        runs.move(run.id, to=run.state, expected={run.state}, change=change)
    except InvalidState:
        return False
    return True


def take_over(run: RunRecord) -> RunRecord:
    """Claim a lost run for the caller, who concludes it; return the updated run.

    The process that had claimed it is fenced from here on. Raises `InvalidState` when the
    run is no longer lost, or another process has taken it over.
    """
    alias = route_settings().ledger_database
    with ledger_connection(alias), ledger_transaction(alias):
        rows = Run.objects.using(alias).filter(pk=run.id)
        ours = rows.filter(state=RunState.LOST, claimed_by=run.claimed_by)
        if not ours.update(claimed_by=new_claim_token()):
            state = rows.values_list("state", flat=True).get()
            raise InvalidState(f"Run {run.id} is {state}.", run=run.id, state=state)
        return run_record(rows.get())


def as_unclaimed(run: RunRecord, reason: str) -> RunRecord:
    """Return a run as it is shown while no process has claimed it."""
    return replace(run, waiting_reason=reason, waiting_until="")


def _waits_to_start(run: RunRecord) -> bool:
    return run.state is RunState.QUEUED or run.waits_to_begin
