"""Whose is a run that has not begun?

A process takes it by a word of its own, in one compare-and-set on its row: of two that
come for it, one gets it. Until it is `running`, the word may pass to another process
when the first is gone: nothing was done for it.
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

_NOT_BEGUN = Q(state=RunState.QUEUED) | Q(
    state=RunState.WAITING, waiting_reason__in=SCHEDULE_REASONS
)
_LONG_AGO = "1970-01-01T00:00:00.000000Z"


def new_claim_token() -> str:
    """Return a word by which a process can take runs."""
    return secrets.token_hex(16)


def claim(run: str, word: str, *, host: str, pid: int | None) -> RunRecord:
    """Take a run that has not begun and is nobody's, or is this word's already.

    Raises `NotInThisState` when it is another's, or has begun; `UnknownRun`.
    """
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        rows = Run.objects.using(alias).filter(pk=run)
        free = rows.filter(_NOT_BEGUN, carrier__in=["", word])
        taken = free.update(
            carrier=word, host=host, supervisor_pid=pid, heartbeat_at=DatabaseNow()
        )
        row = rows.first()
    if row is None:
        raise UnknownRun(f"There is no run {run!r}.")
    if not taken:
        is_taken = _waits(run_record(row)) and row.carrier
        whose = f" and has a process on {row.host!r}" if is_taken else ""
        raise InvalidState(f"Run {run} is {row.state}{whose}.", run=run, state=row.state)
    return run_record(row)


def heartbeat(run: str, word: str) -> RunRecord | None:
    """Beat the heart of a run that waits to begin; None when it is not this word's any
    more, or does not wait any more."""
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        rows = Run.objects.using(alias).filter(_NOT_BEGUN, pk=run, carrier=word)
        rows.update(heartbeat_at=DatabaseNow())
        row = rows.first()
    return None if row is None else run_record(row)


def set_scheduled(run: RunRecord, waiting: WaitInfo) -> RunRecord:
    """Let a run that its carrier has taken wait, with its reason and its opening.

    Raises `NotInThisState` when it is not that carrier's any more.
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
        only_if={"carrier": run.carrier},
    )
    return runs.move(
        run.id,
        to=RunState.WAITING,
        expected={RunState.QUEUED, RunState.WAITING},
        change=change,
    )


def release_claim(run: str, word: str) -> None:
    """Make a run nobody's again, which waits to begin: whoever looks may take it."""
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        rows = Run.objects.using(alias).filter(_NOT_BEGUN, pk=run, carrier=word)
        rows.update(carrier="", supervisor_pid=None, heartbeat_at=_LONG_AGO)


def revoke_claim(run: RunRecord, *, tries: int) -> bool:
    """Make a run nobody's again whose carrier is gone; of those who see that, one does
    it and gets True."""
    facts: dict[str, Any] = {**run.waiting_facts, "tries": tries}
    change = runs.Change(
        reason="No process of it is at work: another one may take it up.",
        waiting_reason=run.waiting_reason,
        waiting_until=run.waiting_until,
        waiting_facts=facts if run.waits_to_begin else {},
        columns={"carrier": "", "supervisor_pid": None},
        only_if={
            "carrier": run.carrier,
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
    """Claim a lost run for the caller, who concludes it, and return it as it is then.

    Whichever process had claimed it is fenced from here on. Raises `NotInThisState` when
    the run is not lost any more, or was taken over by another.
    """
    alias = route_settings().ledger_database
    with ledger_connection(alias), ledger_transaction(alias):
        rows = Run.objects.using(alias).filter(pk=run.id)
        ours = rows.filter(state=RunState.LOST, carrier=run.carrier)
        if not ours.update(carrier=new_claim_token()):
            state = rows.values_list("state", flat=True).get()
            raise InvalidState(f"Run {run.id} is {state}.", run=run.id, state=state)
        return run_record(rows.get())


def as_unclaimed(run: RunRecord, reason: str) -> RunRecord:
    """Return a run as it is shown while no process has taken it."""
    return replace(run, waiting_reason=reason, waiting_until="")


def _waits(run: RunRecord) -> bool:
    return run.state is RunState.QUEUED or run.waits_to_begin
