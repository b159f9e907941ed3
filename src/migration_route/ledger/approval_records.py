"""What was demanded of a run, and who has said what of it? Read from rows."""

from __future__ import annotations

import json
from collections.abc import Collection

from migration_route.approvals import Demand, Given, Identity
from migration_route.models import Approval, Run
from migration_route.vocabulary import ActorKind, ApprovalDecision


def demand_of(row: Run) -> Demand | None:
    """Return what is demanded of a run; None where nothing ever was."""
    return Demand.from_dict(json.loads(row.demand)) if row.demand else None


def given_by_run(rows: Collection[Run]) -> dict[str, tuple[Given, ...]]:
    """Return the approvals and rejections of runs, each in the order in which they came.

    One query, whatever the number of runs, for those alone that need an approval.
    """
    about = [row.pk for row in rows if row.demand]
    found: dict[str, list[Given]] = {}
    if about:
        database = next(iter(rows))._state.db
        for row in Approval.objects.using(database).filter(run__in=about).order_by("id"):
            found.setdefault(row.run, []).append(given(row))
    return {run: tuple(sayings) for run, sayings in found.items()}


def given(row: Approval) -> Given:
    """Read a row."""
    return Given(
        decision=ApprovalDecision(row.decision),
        by=Identity(kind=ActorKind(row.actor_kind), name=row.actor_name, key=row.actor_key),
        permissions=frozenset(json.loads(row.permissions)),
        reason=row.reason,
        at=row.at,
    )
