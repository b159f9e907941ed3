"""Fencing: a process writes for a run only while it owns the claim of that run.

A heartbeat that stops does not prove that a process is dead: its host can be cut off, or
the process frozen, and both can return. So the claim is a token in the row of the run.
Every transaction of the run's own processes checks it, and a process that concludes the
run replaces it first.
"""

from __future__ import annotations

from typing import Any

from migration_route.conf import route_settings
from migration_route.core.enums import ACTIVE_STATES, RunState
from migration_route.ledger.database_time import DatabaseNow
from migration_route.models import Run

CLAIMABLE_STATES = ACTIVE_STATES - {RunState.AWAITING_APPROVAL}
"""The states in which a process may write for a run that it has claimed."""


class ClaimLost(Exception):
    """Another process has taken over or concluded this run.

    Not a `RouteError`: no interface reports it, and code that handles a refusal must not
    catch it. The process that gets it stops its worker and writes nothing more.
    """


def renew_claim(run: str, claim: str, **columns: Any) -> None:
    """Write a heartbeat and the columns if the claim is still valid.

    The row stays locked until the caller's transaction ends, so no other process can take
    over the run in between. Writes through `connections[ledger]` of this thread. Raises
    `ClaimLost`.
    """
    rows = _claimed(run, claim)
    if not rows.update(heartbeat_at=DatabaseNow(), **columns):
        raise ClaimLost(run)


def require_claim(run: str, claim: str) -> None:
    """Raise `ClaimLost` unless the claim is still valid.

    Reads through `connections[ledger]` of this thread.
    """
    if not _claimed(run, claim).exists():
        raise ClaimLost(run)


def _claimed(run: str, claim: str) -> Any:
    alias = route_settings().ledger_database
    rows = Run.objects.using(alias).filter(pk=run, claimed_by=claim)
    return rows.filter(state__in=list(CLAIMABLE_STATES))
