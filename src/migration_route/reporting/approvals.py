"""How is it told whose approval a plan needs, and who has given it?"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from migration_route import wire
from migration_route.approvals import Demand, Given
from migration_route.clock import parsed, written
from migration_route.deciding.approving import counted
from migration_route.ledger.records import RunRecord
from migration_route.vocabulary import ApprovalDecision, RunState


def with_demand(plan: wire.PlanAnswer, demand: Demand | None) -> wire.PlanAnswer:
    """Return the answer with a plan, telling what its reader would need as well."""
    return msgspec.structs.replace(plan, approval=demand and demand_answer(demand))


def demand_answer(demand: Demand) -> wire.DemandAnswer:
    """Return what is demanded."""
    return wire.DemandAnswer(
        required=demand.required,
        permissions=list(demand.permissions),
        self_approval=demand.self_approval,
        lifetime=demand.lifetime.total_seconds(),
        rule=demand.rule,
        why=demand.why,
    )


def approval_answer(run: RunRecord) -> wire.ApprovalAnswer | None:
    """Return whose approval a run needs or needed; None where nobody's."""
    demand = run.demand
    if demand is None:
        return None
    by = counted(demand, run.given, requester=run.requester)
    rejections = _sayings(run.given, ApprovalDecision.REJECT)
    return wire.ApprovalAnswer(
        required=demand.required,
        given=len(by),
        by=_sayings(by, ApprovalDecision.APPROVE),
        expires=run.waiting_until
        if run.state is RunState.AWAITING_APPROVAL
        else written(parsed(run.created_at) + demand.lifetime),
        why=demand.why,
        rule=demand.rule,
        permissions=list(demand.permissions),
        self_approval=demand.self_approval,
        rejected=rejections[0] if rejections else None,
    )


def _sayings(given: Iterable[Given], what: ApprovalDecision) -> list[wire.SayingAnswer]:
    return [
        wire.SayingAnswer(kind=one.by.kind, name=one.by.name, at=one.at, reason=one.reason)
        for one in given
        if one.decision is what
    ]
