"""The pages that start, show and list rehearsals."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from migration_route.access.actors import Actor, may
from migration_route.core.enums import CopyKind, RehearsalState, Scope
from migration_route.ledger.rehearsals import RehearsalRecord
from migration_route.planning.plan import Plan
from migration_route.presentation.rehearsal_serializers import rehearsal_answer
from migration_route.presentation.text.rehearsals import summary
from migration_route.services import rehearsals as rehearsing
from migration_route.web import forms
from migration_route.web.rendering import render

_REFRESH = "2"  # seconds until the browser reloads the page of an active rehearsal
_PAGE = 25
_HEADLINES = {
    RehearsalState.QUEUED: "Waiting for the process to start.",
    RehearsalState.COPYING: "Creating the copy.",
    RehearsalState.RUNNING: "Running the plan on the copy.",
    RehearsalState.SUCCEEDED: "The plan succeeded on a copy.",
    RehearsalState.FAILED: "The plan fails.",
}
_HEADLINES_IN_PLACE = {
    **_HEADLINES,
    RehearsalState.RUNNING: "Running the plan in place, to be rolled back.",
    RehearsalState.SUCCEEDED: "The plan succeeded and was rolled back.",
    RehearsalState.FAILED: "The plan failed and was rolled back.",
}
_MAYBE_NOT_ROLLED_BACK = frozenset({"NotRolledBack", "SessionOrphaned"})


def _headline(record: RehearsalRecord) -> str:
    if not record.in_place:
        return _HEADLINES[record.state]
    if record.error is not None and record.error.type in _MAYBE_NOT_ROLLED_BACK:
        return "The plan may not have been rolled back completely."
    if record.unrehearsed:
        count = len(record.steps)
        return (
            f"{count - record.unrehearsed} of {count} steps succeeded and were rolled "
            "back; the others cannot be rehearsed in place."
        )
    return _HEADLINES_IN_PLACE[record.state]


def _has_failed_step(record: RehearsalRecord) -> bool:
    steps = (*record.report.steps, *(record.report.back or ()))
    return any(step.error for step in steps)


def last_rehearsal_context(plan: Plan, actor: Actor) -> dict[str, object]:
    """Return the template context of a plan's last rehearsal."""
    record = rehearsing.last_rehearsal_of(plan, actor)
    return {
        "rehearsed": record,
        "rehearsed_words": "" if record is None else summary(rehearsal_answer(record)),
        "may_rehearse": may(actor, Scope.REHEARSE, plan.database),
        "may_in_place": rehearsing.may_in_place(plan.database, actor),
        "in_place_timeout": f"{rehearsing.in_place_timeout(plan.database):g} s",
    }


def rehearse(request: HttpRequest, actor: Actor) -> HttpResponse:
    wanted = forms.plan_request(request.POST)
    record = rehearsing.rehearse(
        rehearsing.RehearseRequest(
            database=wanted.database,
            targets=wanted.targets,
            phase=wanted.phase,
            fingerprint=request.POST.get("fingerprint", ""),
            kind=forms.choice(request.POST, "kind", CopyKind) or CopyKind.SCHEMA,
            round_trip=request.POST.get("round_trip") == "on",
            in_place=request.POST.get("in_place") == "on",
            reason=forms.reason(request.POST),
        ),
        actor,
    )
    return redirect("migration_route:rehearsal", rehearsal=record.id)


def show(request: HttpRequest, actor: Actor, rehearsal: str) -> HttpResponse:
    """Show one rehearsal; the browser reloads the page while it is active."""
    record = rehearsing.show(rehearsal, actor)
    response = render(
        request,
        actor,
        "rehearsal",
        {
            "title": f"Rehearsal {'in place, on' if record.in_place else 'on a copy of'} "
            f"{record.database}",
            "record": record,
            "headline": _headline(record),
            "shows_error": record.error is not None and not _has_failed_step(record),
        },
    )
    if record.is_active:
        response["Refresh"] = _REFRESH
    return response


def listing(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show the rehearsals, newest first."""
    before = request.GET.get("before") or None
    found = rehearsing.list_all(actor, before=before, limit=_PAGE)
    return render(
        request,
        actor,
        "rehearsals",
        {
            "title": "Rehearsals",
            "here": "rehearsals",
            "rehearsals": found,
            "is_first": before is None,
            "older": found[-1].id if len(found) == _PAGE else "",
        },
    )
