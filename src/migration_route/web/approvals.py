"""What does a page say of an approval? And the addresses by which one is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from migration_route.access.actors import Actor
from migration_route.core.enums import ApprovalDecision, RunState
from migration_route.core.errors import RouteError
from migration_route.core.values import ApprovalRequirement
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import AT_FIRST, same_plan
from migration_route.presentation import schemas
from migration_route.presentation.serializers import approval_answer, demand_answer
from migration_route.presentation.text.runs import demand_words, rights
from migration_route.services import approvals as approving
from migration_route.services import plans as planning
from migration_route.services.decisions import request_of
from migration_route.web import forms
from migration_route.web.formatting import duration, moment
from migration_route.web.plans import PlanView, plan_view

APPROVAL_SENTENCES = {
    RunState.AWAITING_APPROVAL: (
        "Waiting for approval: nothing has begun.",
        "It begins by itself when enough people have agreed.",
    ),
    RunState.REJECTED: (
        "Rejected: nothing was begun.",
        "When what was objected to is put right, ask anew.",
    ),
    RunState.EXPIRED: (
        "Expired: nobody approved it in time, and nothing was begun.",
        "Read the plan again, and ask anew.",
    ),
}
"""What is so with a run that waits for approval, or has waited in vain; what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandView:
    """What a plan needs, for whoever is about to ask for it."""

    required: int
    words: str
    lifetime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteView:
    """What somebody has said of a run."""

    what: str
    tone: str
    name: str
    reason: str
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalView:
    """Whose approval a run needs or needed, and what its reader may do about it."""

    answer: schemas.ApprovalAnswer
    words: str
    rights: str
    expires: datetime | None
    sayings: tuple[VoteView, ...]
    is_waiting: bool
    may_approve: bool
    may_reject: bool
    has_approved: bool
    is_requester: bool
    plan: PlanView | None  # what is to be approved, while it waits
    has_changed: bool  # the plan is not the one that was asked for
    problem: RouteError | None  # why the plan cannot be shown


def demand_view(demand: ApprovalRequirement | None) -> DemandView | None:
    """Return what a plan needs as its page shows it."""
    if demand is None:
        return None
    return DemandView(
        required=demand.required,
        words=demand_words(demand_answer(demand)),
        lifetime=duration(round(demand.lifetime.total_seconds() * 1000)),
    )


def approval_view(run: RunRecord, actor: Actor) -> ApprovalView | None:
    """Return what the page of a run shows to this reader; None where nobody's approval
    was ever needed. The plan is read anew while the run waits."""
    answer = approval_answer(run)
    if answer is None:
        return None
    is_waiting = run.state is RunState.AWAITING_APPROVAL
    plan, problem = _plan(run, actor) if is_waiting else (None, None)
    return ApprovalView(
        answer=answer,
        words=demand_words(answer, verb="needs" if is_waiting else "needed"),
        rights=rights(answer),
        expires=moment(answer.expires),
        sayings=tuple(_sayings(run)),
        is_waiting=is_waiting,
        may_approve=is_waiting and approving.may_approve(run, actor),
        may_reject=is_waiting and approving.may_reject(run, actor),
        has_approved=any(one.by == actor.identity for one in run.given),
        is_requester=run.requester == actor.identity,
        plan=plan,
        has_changed=plan is not None
        and not same_plan(plan.plan.fingerprint, run.fingerprint),
        problem=problem,
    )


def _plan(run: RunRecord, actor: Actor) -> tuple[PlanView | None, RouteError | None]:
    try:
        found = planning.plan(request_of(run), actor, AT_FIRST)
    except RouteError as error:
        return None, error
    return plan_view(found, actor, AT_FIRST), None


def _sayings(run: RunRecord) -> Iterator[VoteView]:
    for one in run.given:
        agrees = one.decision is ApprovalDecision.APPROVE
        yield VoteView(
            what="approved" if agrees else "rejected",
            tone="good" if agrees else "bad",
            name=one.by.name,
            reason=one.reason,
            at=moment(one.at),
        )


def approve(request: HttpRequest, actor: Actor, run: str) -> HttpResponse:
    """Agree to a run that waits for approval."""
    approving.approve(run, actor, reason=forms.reason(request.POST))
    return redirect("migration_route:run", run=run)


def reject(request: HttpRequest, actor: Actor, run: str) -> HttpResponse:
    """Turn down a run that waits for approval."""
    approving.reject(run, actor, reason=forms.reason(request.POST))
    return redirect("migration_route:run", run=run)
