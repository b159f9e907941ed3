"""What was demanded of a run, and who has said what of it? Read from rows."""

from __future__ import annotations

import json

from migration_route.approvals import Demand, Given, Identity
from migration_route.models import Approval, Run
from migration_route.vocabulary import ActorKind, ApprovalDecision


def demand_of(row: Run) -> Demand | None:
    """Return what is demanded of a run; None where nothing ever was."""
    return Demand.from_dict(json.loads(row.demand)) if row.demand else None


def given_of(row: Run) -> tuple[Given, ...]:
    """Return what people have said of a run, in that order; only one of which something
    is demanded is looked at."""
    if not row.demand:
        return ()
    rows = Approval.objects.using(row._state.db).filter(run=row.pk).order_by("id")
    return tuple(map(given, rows))


def given(row: Approval) -> Given:
    """Read a row."""
    return Given(
        decision=ApprovalDecision(row.decision),
        by=Identity(kind=ActorKind(row.actor_kind), name=row.actor_name, key=row.actor_key),
        permissions=frozenset(json.loads(row.permissions)),
        reason=row.reason,
        at=row.at,
    )
