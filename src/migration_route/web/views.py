"""The views of the staff pages. They only call services and render the results."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import suppress

from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect

from migration_route.access.actors import Actor, may
from migration_route.conf import route_settings
from migration_route.core.enums import Action, CopyKind, RehearsalState, RunState, Scope
from migration_route.core.errors import (
    DatabaseUnavailable,
    PlanChanged,
    RouteError,
    StaleCode,
)
from migration_route.ledger.records import RunRecord
from migration_route.ledger.rehearsals import RehearsalRecord
from migration_route.planning.plan import DEFAULT_DETAILS, Details, PlanRequest
from migration_route.presentation.schemas.requests import LONGEST_REASON
from migration_route.presentation.serializers import rehearsal_answer
from migration_route.presentation.text.rehearsals import summary
from migration_route.services import apply as applying
from migration_route.services import approvals as approving
from migration_route.services import control, rehearsals, runs
from migration_route.services import ledger as ledgers
from migration_route.services import plans as planning
from migration_route.services import resolve as resolving
from migration_route.services.plans import approval_requirement_for
from migration_route.web import forms
from migration_route.web.base import Page
from migration_route.web.databases import MOST_CARDS, database_views
from migration_route.web.filters import tone
from migration_route.web.forms import NotConfirmed
from migration_route.web.plan_graph import plan_graph
from migration_route.web.plans import health_view, opening_view, plan_view
from migration_route.web.rendering import render
from migration_route.web.resolution import resolution_choices
from migration_route.web.runs import approval_view, current_activity, live_view, log_events
from migration_route.web.verdict import verdict_of

_LAST_RUNS = 5
_PAGE = 25
_EVENTS = 500


def dashboard(request: HttpRequest, actor: Actor) -> HttpResponse:
    found = runs.status(actor)
    ledger_database = route_settings().ledger_database
    last: dict[str, RunRecord] = {}
    newest: list[RunRecord] = []
    with suppress(RouteError):  # the status of the ledger's database shows why
        last = runs.last_runs([status.database for status in found], actor)
        newest = runs.list_all(actor, limit=_LAST_RUNS)
    views = database_views(found, last)
    return render(
        request,
        actor,
        "dashboard",
        {
            "title": "Migrations",
            "here": "dashboard",
            "databases": views,
            "is_table": len(views) > MOST_CARDS,
            "runs": newest,
            "ledger_database": ledger_database,
            # A user without access to the ledger database does not learn its state.
            "ledger_installed": any(status.ledger_installed for status in found)
            or not may(actor, Scope.READ, ledger_database),
        },
    )


def plan_summary(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Return the verdict on a plan as a fragment of HTML, for the start page."""
    wanted, details = forms.plan_request(request.GET), DEFAULT_DETAILS
    return render(request, actor, "_summary", _plan_context(wanted, actor, details))


def plan(request: HttpRequest, actor: Actor) -> HttpResponse:
    plan_request, details = forms.plan_request(request.GET), forms.details(request)
    return _plan_page(request, actor, plan_request, details=details)


def _plan_page(
    request: HttpRequest,
    actor: Actor,
    wanted: PlanRequest,
    *,
    details: Details = DEFAULT_DETAILS,
    refusal: RouteError | None = None,
    reason: str = "",
    typed: str = "",
) -> HttpResponse:
    return render(
        request,
        actor,
        "plan",
        {
            **_plan_context(wanted, actor, details, typed=typed),
            "targets": wanted.targets,
            "key": secrets.token_hex(16),
            "refusal": refusal,
            "reason": reason,
            "longest_reason": LONGEST_REASON,
        },
        status=refusal.http_status if refusal else 200,
    )


def _plan_context(
    wanted: PlanRequest, actor: Actor, details: Details, *, typed: str = ""
) -> dict[str, object]:
    """Return the plan, the verdict on it, and what the verdict is about."""
    read = planning.read_plan(wanted, actor, details)
    found = read.plan
    view = plan_view(found, actor, details)
    health = (
        health_view(planning.health(wanted, actor, read).moment) if found.steps else None
    )
    requirement = approval_requirement_for(wanted, found, actor, details)
    opening = opening_view(planning.next_opening(found.database), typed=typed)
    last = _last_run(found.database, actor)
    rehearsed = rehearsals.last_rehearsal_of(found, actor)
    return {
        "title": f"Plan for {found.database}",
        "plan": view,
        "verdict": verdict_of(
            view,
            last=last,
            health=health,
            opening=opening,
            requirement=requirement,
            rehearsal=rehearsed,
        ),
        "graph": plan_graph(view, planning.dependencies_of(read))
        if read.migrations and len(found.steps) > 1
        else None,
        "last_run": last,
        "moment": health,
        "approval_requirement": requirement,
        "opening": opening,
        "rehearsed": rehearsed,
        "rehearsed_words": summary(rehearsal_answer(rehearsed)) if rehearsed else "",
        "may_rehearse": may(actor, Scope.REHEARSE, found.database),
        "may_in_place": rehearsals.may_in_place(found.database, actor),
        "in_place_timeout": f"{rehearsals.in_place_timeout(found.database):g} s",
    }


def _last_run(database: str, actor: Actor) -> RunRecord | None:
    """Return the newest run that the actor may read; None also while the ledger is
    unavailable: the plan itself does not need it."""
    if not may(actor, Scope.READ, database):
        return None
    with suppress(DatabaseUnavailable):
        return runs.last_runs([database], actor).get(database)
    return None


def apply(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Start a run; if the plan or the build has changed, show the current plan instead."""
    wanted = forms.apply_request(request.POST)
    try:
        forms.require_typed_name(request.POST, wanted.database)
        run = applying.apply(wanted, actor)
    except (PlanChanged, StaleCode, NotConfirmed) as error:
        again = PlanRequest(
            database=wanted.database, targets=wanted.targets, phase=wanted.phase
        )
        return _plan_page(
            request,
            actor,
            again,
            refusal=error,
            reason=wanted.reason,
            typed=request.POST.get("at", ""),
        )
    return redirect("migration_route:run", run=run.id)


def run(request: HttpRequest, actor: Actor, run: str) -> HttpResponse:
    found = runs.show(run, actor)
    after = forms.number(request, "after")
    if after is None:
        after = max(0, found.last_event - _EVENTS)
    happened = runs.events(run, actor, after=after, limit=_EVENTS)
    may_resolve = may(actor, Scope.RESOLVE, found.database)
    approval = approval_view(found, actor)
    rehearsed = (
        rehearsals.last_rehearsal_of(approval.plan.plan, actor)
        if approval and approval.plan
        else None
    )
    view = live_view(found, runs.activity(found, actor), runs.step_events(found, actor))
    return render(
        request,
        actor,
        "run",
        {
            "title": f"Run on {found.database}",
            "tab": view.tab,
            "icon": tone(found.state),
            "run": view,
            "events": log_events(happened.events),
            "current": current_activity(happened.events) if found.is_active else None,
            "last": str(happened.last),
            "earlier": str(max(0, after - _EVENTS)) if after else "",
            "later": str(happened.last) if happened.last < found.last_event else "",
            "approval": approval,
            "rehearsed": rehearsed,
            "rehearsed_words": summary(rehearsal_answer(rehearsed)) if rehearsed else "",
            "may_operate": may(actor, Scope.OPERATE, found.database)
            or control.may_withdraw(found, actor),
            "may_force": may(actor, Scope.FORCE, found.database),
            "may_resolve": may_resolve,
            "resolutions": resolution_choices(
                resolving.options(found, actor), view.suggested_resolution
            )
            if may_resolve and found.state is RunState.PARTIAL
            else (),
            "may_terminate_blockers": may(actor, Scope.FORCE, found.database)
            and route_settings().database(found.database).allow_terminate_blockers,
            "longest_reason": LONGEST_REASON,
        },
    )


def _run_form(
    change: Callable[..., RunRecord], **fields: Callable[[QueryDict], object]
) -> Page:
    """Return a page that changes a run by a form, with its reason and these fields, and
    shows the run that results."""

    def submit(request: HttpRequest, actor: Actor, run: str) -> HttpResponse:
        wanted = {name: read(request.POST) for name, read in fields.items()}
        found = change(run, actor, reason=forms.reason(request.POST), **wanted)
        return redirect("migration_route:run", run=found.id)

    return submit


def _terminate_blockers(request: HttpRequest, actor: Actor, run: str) -> HttpResponse:
    control.terminate_blockers(run, actor, reason=forms.reason(request.POST))
    return redirect("migration_route:run", run=run)


RUN_FORMS: dict[str, Page] = {
    "approve": _run_form(approving.approve),
    "reject": _run_form(approving.reject),
    "cancel": _run_form(control.cancel, force=forms.is_forced),
    "pause": _run_form(control.pause),
    "resume": _run_form(control.resume, force=forms.is_forced),
    "resolve": _run_form(resolving.resolve, how=forms.resolution),
    "terminate-blockers": _terminate_blockers,
}
"""The forms on the page of a run, by the last part of their URL."""


_REHEARSAL_HEADLINES = {
    RehearsalState.QUEUED: "Waiting for the process to start.",
    RehearsalState.COPYING: "Creating the copy.",
    RehearsalState.RUNNING: "Running the plan on the copy.",
    RehearsalState.SUCCEEDED: "The plan succeeded on a copy.",
    RehearsalState.FAILED: "The plan fails.",
}
_IN_PLACE_HEADLINES = {
    **_REHEARSAL_HEADLINES,
    RehearsalState.RUNNING: "Running the plan in place, to be rolled back.",
    RehearsalState.SUCCEEDED: "The plan succeeded and was rolled back.",
    RehearsalState.FAILED: "The plan failed and was rolled back.",
}
_MAYBE_NOT_ROLLED_BACK = frozenset({"NotRolledBack", "SessionOrphaned"})


def _rehearsal_headline(record: RehearsalRecord) -> str:
    if not record.in_place:
        return _REHEARSAL_HEADLINES[record.state]
    if record.error is not None and record.error.type in _MAYBE_NOT_ROLLED_BACK:
        return "The plan may not have been rolled back completely."
    if record.unrehearsed:
        count = len(record.steps)
        return (
            f"{count - record.unrehearsed} of {count} steps succeeded and were rolled "
            "back; the others cannot be rehearsed in place."
        )
    return _IN_PLACE_HEADLINES[record.state]


def _has_failed_step(record: RehearsalRecord) -> bool:
    steps = (*record.report.steps, *(record.report.back or ()))
    return any(step.error for step in steps)


def rehearse(request: HttpRequest, actor: Actor) -> HttpResponse:
    wanted = forms.plan_request(request.POST)
    record = rehearsals.rehearse(
        rehearsals.RehearseRequest(
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


def rehearsal(request: HttpRequest, actor: Actor, rehearsal: str) -> HttpResponse:
    record = rehearsals.show(rehearsal, actor)
    where = "in place, on" if record.in_place else "on a copy of"
    return render(
        request,
        actor,
        "rehearsal",
        {
            "title": f"Rehearsal {where} {record.database}",
            "icon": tone(record.state),
            "record": record,
            "headline": _rehearsal_headline(record),
            "shows_error": record.error is not None and not _has_failed_step(record),
        },
    )


def _list_page(
    request: HttpRequest, actor: Actor, name: str, *, older: str, **context: object
) -> HttpResponse:
    """Return a page of a list; `older` is the cursor of the next page, "" on the last."""
    wanted = request.GET.copy()
    wanted.pop("before", None)
    wanted.pop("verify", None)
    shown = {
        "here": name,
        "is_first": not request.GET.get("before"),
        "older": older,
        "query": wanted.urlencode(),
        "wanted": wanted.dict(),
        "is_filtered": any(wanted.values()),
        **context,
    }
    return render(request, actor, name, shown)


def history(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show the runs, newest first."""
    database = request.GET.get("database") or None
    before = request.GET.get("before") or None
    wanted = forms.run_filter(request.GET)
    found = runs.list_all(
        actor, database=database, before=before, limit=_PAGE, wanted=wanted
    )
    return _list_page(
        request,
        actor,
        "history",
        older=found[-1].id if len(found) == _PAGE else "",
        title="Runs",
        runs=found,
        databases=runs.readable_databases(actor),
        states=list(RunState),
    )


def list_rehearsals(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show the rehearsals, newest first."""
    before = request.GET.get("before") or None
    found = rehearsals.list_all(actor, before=before, limit=_PAGE)
    return _list_page(
        request,
        actor,
        "rehearsals",
        older=found[-1].id if len(found) == _PAGE else "",
        title="Rehearsals",
        rehearsals=found,
    )


def ledger(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show the ledger, newest first; with `verify`, verify its hash chain."""
    found = ledgers.entries(
        actor,
        before=forms.number(request, "before"),
        limit=_PAGE,
        wanted=forms.entry_filter(request.GET),
    )
    return _list_page(
        request,
        actor,
        "ledger",
        older=str(found[-1].sequence) if len(found) == _PAGE else "",
        title="Ledger",
        entries=found,
        verification=ledgers.verify(actor) if "verify" in request.GET else None,
        databases=runs.readable_databases(actor),
        actions=list(Action),
    )
