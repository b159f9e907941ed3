"""The approval part of a run's page, and the views that approve and reject a run."""

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
from migration_route.planning.plan import DEFAULT_DETAILS, same_plan
from migration_route.presentation import schemas
from migration_route.presentation.serializers import (
    approval_answer,
    approval_requirement_answer,
)
from migration_route.presentation.text.runs import (
    approval_requirement_words,
    permission_words,
)
from migration_route.services import approvals as approving
from migration_route.services import plans as planning
from migration_route.services.decisions import request_of
from migration_route.web import forms
from migration_route.web.formatting import format_duration, parse_optional_time
from migration_route.web.plans import PlanView, plan_view

APPROVAL_SENTENCES = {
    RunState.AWAITING_APPROVAL: (
        "Waiting for approval: nothing has started.",
        "The run starts automatically once it has enough approvals.",
    ),
    RunState.REJECTED: (
        "Rejected: nothing was started.",
        "Address the objection, then request a new run.",
    ),
    RunState.EXPIRED: (
        "Expired: not approved in time, and nothing was started.",
        "Review the plan again, then request a new run.",
    ),
}
"""Headline and advice by state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequirementView:
    """The approval requirement of a plan, as its page shows it."""

    required: int
    words: str
    lifetime: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteView:
    """An approval or a rejection of a run."""

    decision: str
    tone: str
    name: str
    reason: str
    at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalView:
    """The approvals of a run, and what the current user may do about them."""

    answer: schemas.ApprovalAnswer
    words: str
    rights: str
    expires: datetime | None
    votes: tuple[VoteView, ...]
    is_waiting: bool
    may_approve: bool
    may_reject: bool
    has_approved: bool
    is_requester: bool
    plan: PlanView | None  # the plan to approve, while the run waits
    has_changed: bool  # the plan differs from the requested one
    problem: RouteError | None  # why the plan cannot be read


def approval_requirement_view(
    requirement: ApprovalRequirement | None,
) -> ApprovalRequirementView | None:
    if requirement is None:
        return None
    return ApprovalRequirementView(
        required=requirement.required,
        words=approval_requirement_words(approval_requirement_answer(requirement)),
        lifetime=format_duration(round(requirement.lifetime.total_seconds() * 1000)),
    )


def approval_view(run: RunRecord, actor: Actor) -> ApprovalView | None:
    """Return the approvals of a run; None if it needs and needed none.

    While the run waits for approval, its plan is computed again.
    """
    answer = approval_answer(run)
    if answer is None:
        return None
    is_waiting = run.state is RunState.AWAITING_APPROVAL
    plan, problem = _plan(run, actor) if is_waiting else (None, None)
    return ApprovalView(
        answer=answer,
        words=approval_requirement_words(answer, verb="needs" if is_waiting else "needed"),
        rights=permission_words(answer),
        expires=parse_optional_time(answer.expires),
        votes=tuple(_vote_views(run)),
        is_waiting=is_waiting,
        may_approve=is_waiting and approving.may_approve(run, actor),
        may_reject=is_waiting and approving.may_reject(run, actor),
        has_approved=any(vote.by == actor.identity for vote in run.given),
        is_requester=run.requester == actor.identity,
        plan=plan,
        has_changed=plan is not None
        and not same_plan(plan.plan.fingerprint, run.fingerprint),
        problem=problem,
    )


def _plan(run: RunRecord, actor: Actor) -> tuple[PlanView | None, RouteError | None]:
    try:
        plan = planning.plan(request_of(run), actor, DEFAULT_DETAILS)
    except RouteError as error:
        return None, error
    return plan_view(plan, actor, DEFAULT_DETAILS), None


def _vote_views(run: RunRecord) -> Iterator[VoteView]:
    for vote in run.given:
        is_approval = vote.decision is ApprovalDecision.APPROVE
        yield VoteView(
            decision="approved" if is_approval else "rejected",
            tone="good" if is_approval else "bad",
            name=vote.by.name,
            reason=vote.reason,
            at=parse_optional_time(vote.at),
        )


def approve(request: HttpRequest, actor: Actor, run: str) -> HttpResponse:
    approving.approve(run, actor, reason=forms.reason(request.POST))
    return redirect("migration_route:run", run=run)


def reject(request: HttpRequest, actor: Actor, run: str) -> HttpResponse:
    approving.reject(run, actor, reason=forms.reason(request.POST))
    return redirect("migration_route:run", run=run)
