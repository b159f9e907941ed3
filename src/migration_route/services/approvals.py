"""Approves and rejects runs that wait for approval."""

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
from migration_route.policy.approvals import APPROVER_KINDS, is_same_actor
from migration_route.policy.decision import Denied, NeedsApproval
from migration_route.services.audit import audited
from migration_route.services.release import decide_now, release_with
from migration_route.services.runs import show


def approve(run: str, actor: Actor, *, reason: str = "") -> RunRecord:
    """Approve a run; the last required approval releases it.

    Raises `Unauthenticated` and `Forbidden`, also for the requester unless self-approval is
    allowed; `PlanChanged` or `StaleCode` when its plan has changed, which ends the run;
    `InvalidState` unless the run waits for approval. A repeated approval by the same actor
    returns the run.
    """
    with audited(actor, "approve", run=run):
        found = show(run, actor)
        _authorise_to_approve(actor, found.approval_requirement, found)
        if _has_approved(found, actor):
            return found
        requirement = _require_awaiting(found)
        decision = decide_now(found)
        if isinstance(decision, Denied):
            raise decision.error
        if isinstance(decision, NeedsApproval):
            # at least as strict as at the request
            requirement = decision.approval_requirement
            _authorise_to_approve(actor, requirement, found)
        vote = _vote(actor, requirement, reason, database=found.database)
        until = _expiry(found, requirement)
        approved = approvals.record_approval(
            run, vote, approval_requirement=requirement, until=until
        )
        return release_with(approved, decision)


def reject(run: str, actor: Actor, *, reason: str) -> RunRecord:
    """Reject a run that waits for approval, which ends it.

    Raises as `approve` does, and `InvalidRequest` without a reason.
    """
    with audited(actor, "reject", run=run):
        found = show(run, actor)
        _authorise(actor, found.approval_requirement, found)
        requirement = _require_awaiting(found)
        if not reason.strip():
            raise InvalidRequest(
                "A rejection needs a reason.", hint="State what must change."
            )
        vote = _vote(actor, requirement, reason, database=found.database)
        return approvals.reject(run, vote)


def may_approve(run: RunRecord, actor: Actor) -> bool:
    """Whether an approval of the run by this actor would be accepted."""
    try:
        _authorise_to_approve(actor, run.approval_requirement, run)
    except (Forbidden, Unauthenticated):
        return False
    return not _has_approved(run, actor)


def may_reject(run: RunRecord, actor: Actor) -> bool:

    try:
        _authorise(actor, run.approval_requirement, run)
    except (Forbidden, Unauthenticated):
        return False
    return True


def _authorise_to_approve(
    actor: Actor, requirement: ApprovalRequirement | None, run: RunRecord
) -> None:
    _authorise(actor, requirement, run)
    if requirement is None or requirement.self_approval:
        return
    if is_same_actor(actor.identity, run.requester):
        raise Forbidden(
            f"{run.actor_name!r} requested run {run.id}: another user must approve it.",
            hint="Ask a user who can approve it, or cancel the run.",
            run=run.id,
        )


def _authorise(
    actor: Actor, requirement: ApprovalRequirement | None, run: RunRecord
) -> None:
    """Raise `Forbidden` unless the actor is a user with the required permissions."""
    needed = requirement.permissions if requirement else (APPROVE,)
    authorise(actor, Scope.READ, database=run.database)
    if actor.kind not in APPROVER_KINDS:
        raise Forbidden(
            f"{actor.name!r} is a machine: only users can approve and reject.",
            needs=needed[0],
        )
    for permission in needed:
        if permission == APPROVE:
            authorise(actor, Scope.APPROVE, database=run.database)
        elif not actor.holds(permission):
            raise Forbidden(
                f"{actor.name!r} lacks the permission {permission!r}.", needs=permission
            )


def _require_awaiting(run: RunRecord) -> ApprovalRequirement:
    if run.approval_requirement is None or run.state is not RunState.AWAITING_APPROVAL:
        raise InvalidState(
            f"Run {run.id} is {run.state} and does not wait for approval.",
            run=run.id,
            state=run.state,
        )
    return run.approval_requirement


def _has_approved(run: RunRecord, actor: Actor) -> bool:
    return any(
        vote.decision is ApprovalDecision.APPROVE and vote.by == actor.identity
        for vote in run.given
    )


def _vote(
    actor: Actor, requirement: ApprovalRequirement, reason: str, *, database: str
) -> approvals.ApprovalVote:
    """Return the vote to record, with the permissions that may matter later.

    The policy can become stricter before the run is released.
    """
    policy = route_settings().approvals
    named = {*requirement.permissions, *(policy.permissions if policy else ())} - {APPROVE}
    permissions = {permission for permission in named if actor.holds(permission)}
    if may(actor, Scope.APPROVE, database):
        permissions.add(APPROVE)
    return approvals.ApprovalVote(
        actor_kind=actor.kind,
        actor_name=actor.name,
        actor_key=actor.identity.key,
        address=actor.address,
        permissions=frozenset(permissions),
        reason=reason,
    )


def _expiry(run: RunRecord, requirement: ApprovalRequirement) -> str:
    """Return when a run expires by the current requirement: never later than before."""
    return min(
        run.waiting_until, format_time(parse_time(run.created_at) + requirement.lifetime)
    )
