"""Agree to a run that waits for approval, or reject it."""

from __future__ import annotations

from migration_route.access.actors import Actor, authorise, may
from migration_route.conf import route_settings
from migration_route.core.clock import format_time, parse_time
from migration_route.core.enums import ApprovalDecision, RunState, Scope
from migration_route.core.errors import (
    Forbidden,
    InvalidRequest,
    InvalidState,
    Unauthenticated,
)
from migration_route.core.values import APPROVE, ApprovalRequirement
from migration_route.ledger import approvals
from migration_route.ledger.records import RunRecord
from migration_route.policy.approvals import PEOPLE, is_same
from migration_route.policy.decision import Denied, NeedsApproval
from migration_route.services.audit import audited
from migration_route.services.release import decide_now, release_with
from migration_route.services.runs import show


def approve(run: str, actor: Actor, *, reason: str = "") -> RunRecord:
    """Agree to a run; with the last approval that it needs, it is let go.

    Raises `Unauthenticated` and `Forbidden`, also for whoever asked for it; `PlanChanged`
    or `StaleCode` when its plan is not the plan any more, which ends it;
    `NotInThisState` unless it waits for approval, but for whoever has approved it before.
    """
    with audited(actor, "approve", run=run):
        found = show(run, actor)
        _authorise_to_approve(actor, found.demand, found)
        if _has_approved(found, actor):
            return found
        demand = _demand_of_waiting(found)
        decision = decide_now(found)
        if isinstance(decision, Denied):
            raise decision.error
        if isinstance(decision, NeedsApproval):
            demand = decision.demand  # at least what was demanded at the request
            _authorise_to_approve(actor, demand, found)
        saying = _saying(actor, demand, reason, database=found.database)
        until = _until(found, demand)
        given = approvals.record_approval(run, saying, demand=demand, until=until)
        return release_with(given, decision)


def reject(run: str, actor: Actor, *, reason: str) -> RunRecord:
    """Turn down a run that waits for approval; it has ended then.

    Raises as `approve` does, and `InvalidRequest` without a reason.
    """
    with audited(actor, "reject", run=run):
        found = show(run, actor)
        _authorise(actor, found.demand, found)
        demand = _demand_of_waiting(found)
        if not reason.strip():
            raise InvalidRequest(
                "A rejection needs a reason.", hint="Say what would have to be different."
            )
        saying = _saying(actor, demand, reason, database=found.database)
        return approvals.reject(run, saying)


def may_approve(run: RunRecord, actor: Actor) -> bool:
    """Tell whether this actor's approval of a run would be taken."""
    try:
        _authorise_to_approve(actor, run.demand, run)
    except (Forbidden, Unauthenticated):
        return False
    return not _has_approved(run, actor)


def may_reject(run: RunRecord, actor: Actor) -> bool:
    """Tell whether this actor may turn down a run."""
    try:
        _authorise(actor, run.demand, run)
    except (Forbidden, Unauthenticated):
        return False
    return True


def _authorise_to_approve(
    actor: Actor, demand: ApprovalRequirement | None, run: RunRecord
) -> None:
    _authorise(actor, demand, run)
    if demand is None or demand.self_approval:
        return
    if is_same(actor.identity, run.requester):
        raise Forbidden(
            f"{run.actor_name!r} has asked for run {run.id}: another person has to "
            "approve it.",
            hint="Ask somebody with the right, or cancel it.",
            run=run.id,
        )


def _authorise(actor: Actor, demand: ApprovalRequirement | None, run: RunRecord) -> None:
    """Let pass whoever has the permissions that are demanded, and is a person."""
    needed = demand.permissions if demand else (APPROVE,)
    authorise(actor, Scope.READ, database=run.database)
    if actor.kind not in PEOPLE:
        raise Forbidden(
            f"{actor.name!r} is a machine: people alone approve and reject.",
            needs=needed[0],
        )
    for permission in needed:
        if permission == APPROVE:
            authorise(actor, Scope.APPROVE, database=run.database)
        elif not actor.holds(permission):
            raise Forbidden(
                f"{actor.name!r} lacks the permission {permission!r}.", needs=permission
            )


def _demand_of_waiting(run: RunRecord) -> ApprovalRequirement:
    if run.demand is None or run.state is not RunState.AWAITING_APPROVAL:
        raise InvalidState(
            f"Run {run.id} is {run.state}: it does not wait for approval.",
            run=run.id,
            state=run.state,
        )
    return run.demand


def _has_approved(run: RunRecord, actor: Actor) -> bool:
    return any(
        one.decision is ApprovalDecision.APPROVE and one.by == actor.identity
        for one in run.given
    )


def _saying(
    actor: Actor, demand: ApprovalRequirement, reason: str, *, database: str
) -> approvals.ApprovalVote:
    """Return what is put on record, with the permissions that may matter later: the
    policy can be made stricter before the run is let go."""
    policy = route_settings().approvals
    named = {*demand.permissions, *(policy.permissions if policy else ())} - {APPROVE}
    held = {permission for permission in named if actor.holds(permission)}
    if may(actor, Scope.APPROVE, database):
        held.add(APPROVE)
    return approvals.ApprovalVote(
        actor_kind=actor.kind,
        actor_name=actor.name,
        actor_key=actor.identity.key,
        address=actor.address,
        permissions=frozenset(held),
        reason=reason,
    )


def _until(run: RunRecord, demand: ApprovalRequirement) -> str:
    """Return when a run expires, by what is demanded now: never later than before."""
    return min(run.waiting_until, format_time(parse_time(run.created_at) + demand.lifetime))
