"""The approval part of a run's page, and the views that approve and reject a run."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from migration_route.access.actors import Actor
from migration_route.core.enums import RunState
from migration_route.core.errors import RouteError
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import DEFAULT_DETAILS, same_plan
from migration_route.presentation import schemas
from migration_route.presentation.serializers import approval_answer
from migration_route.presentation.text.runs import (
    approval_requirement_words,
    permission_words,
)
from migration_route.services import approvals as approving
from migration_route.services import plans as planning
from migration_route.services.decisions import request_of
from migration_route.web import forms
from migration_route.web.plans import PlanView, plan_view


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalView:
    """The approvals of a run, and what the current user may do about them."""

    answer: schemas.ApprovalAnswer
    words: str
    rights: str
    is_waiting: bool
    may_approve: bool
    may_reject: bool
    has_approved: bool
    is_requester: bool
    plan: PlanView | None  # the plan to approve, while the run waits
    has_changed: bool  # the plan differs from the requested one
    problem: RouteError | None  # why the plan cannot be read


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


def approve(request: HttpRequest, actor: Actor, run: str) -> HttpResponse:
    approving.approve(run, actor, reason=forms.reason(request.POST))
    return redirect("migration_route:run", run=run)


def reject(request: HttpRequest, actor: Actor, run: str) -> HttpResponse:
    approving.reject(run, actor, reason=forms.reason(request.POST))
    return redirect("migration_route:run", run=run)
