"""The pages that start, show and list rehearsals."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from migration_route.access.actors import Actor, may
from migration_route.core.enums import CopyKind, RehearsalState, Scope
from migration_route.core.errors import InvalidRequest
from migration_route.ledger.rehearsals import (
    Limitation,
    ObservedError,
    ObservedLock,
    ObservedOperation,
    ObservedStatement,
    ObservedStep,
    RehearsalRecord,
)
from migration_route.planning.plan import Plan
from migration_route.presentation.rehearsal_serializers import rehearsal_answer
from migration_route.presentation.text.rehearsals import queries, summary, took
from migration_route.services import rehearsals as rehearsing
from migration_route.web import forms
from migration_route.web.formatting import (
    TONES,
    format_duration,
    parse_optional_time,
    readable,
)
from migration_route.web.rendering import render

_REFRESH = "2"  # seconds until the browser reloads the page of an active rehearsal
_PAGE = 25
_TONES = {
    RehearsalState.SUCCEEDED: "good",
    RehearsalState.FAILED: "bad",
}
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


@dataclass(frozen=True, slots=True, kw_only=True)
class LockView:
    lock: ObservedLock
    held: str
    waits: str  # what the lock blocks
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementView:
    statement: ObservedStatement
    took: str
    locks: tuple[LockView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsedOperationView:
    operation: ObservedOperation
    took: str
    queries: str
    statements: tuple[StatementView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsedStepView:
    step: ObservedStep
    state_words: str
    tone: str
    took: str
    error: ObservedError | None
    number: int | None  # of the operation that failed, counted from 1
    operations: tuple[RehearsedOperationView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalView:
    record: RehearsalRecord
    state_words: str
    tone: str
    headline: str
    kind: str
    where: str
    created: datetime | None
    finished: datetime | None
    copied: str
    took: str
    longest: LockView | None
    steps: tuple[RehearsedStepView, ...]
    back: tuple[RehearsedStepView, ...]
    differences: str | None  # None if the schemas were not compared
    limits: tuple[Limitation, ...]
    shows_error: bool  # none of its steps has this error


def rehearsal_view(record: RehearsalRecord) -> RehearsalView:
    report = record.report
    longest = report.longest_lock()
    back = tuple(map(_step_view, report.back or ()))
    steps = tuple(map(_step_view, report.steps))
    return RehearsalView(
        record=record,
        state_words=readable(record.state),
        tone=_TONES.get(record.state, "busy"),
        headline=_headline(record),
        kind=_kind(record),
        where="in place, on" if record.in_place else "on a copy of",
        created=parse_optional_time(record.created_at),
        finished=parse_optional_time(record.finished_at),
        copied=format_duration(report.copy_ms),
        took=format_duration(report.duration_ms),
        longest=None if longest is None else _lock_view(longest),
        steps=steps,
        back=back,
        differences=None if report.differences is None else "\n".join(report.differences),
        limits=report.limits,
        shows_error=record.error is not None
        and not any(step.error for step in (*steps, *back)),
    )


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


def _kind(record: RehearsalRecord) -> str:
    if record.in_place:
        return "in place"
    return "with data" if record.kind is CopyKind.DATA else "schema only"


def _step_view(step: ObservedStep) -> RehearsedStepView:
    position = None if step.error is None else step.error.operation
    return RehearsedStepView(
        step=step,
        state_words=readable(step.state),
        tone=next((tone for state, tone in TONES.items() if state == step.state), "quiet"),
        took=format_duration(step.duration_ms),
        error=step.error,
        number=None if position is None else position + 1,
        operations=tuple(
            RehearsedOperationView(
                operation=found,
                took=format_duration(found.duration_ms),
                queries=queries(found),
                statements=tuple(
                    StatementView(
                        statement=statement,
                        took=took(statement),
                        locks=tuple(map(_lock_view, statement.locks or ())),
                    )
                    for statement in found.statements
                ),
            )
            for found in step.operations
        ),
    )


def _lock_view(lock: ObservedLock) -> LockView:
    waits, tone = "blocks schema changes", "quiet"
    if "reads" in lock.blocks:
        waits, tone = "blocks reads and writes", "bad"
    elif "writes" in lock.blocks:
        waits, tone = "blocks writes", "warning"
    elif not lock.blocks:
        waits = "blocks only DROP and rewrites"
    return LockView(lock=lock, held=format_duration(lock.held_ms), waits=waits, tone=tone)


def last_rehearsal_context(plan: Plan, actor: Actor) -> dict[str, object]:
    """Return the template context of a plan's last rehearsal."""
    record = rehearsing.last_rehearsal_of(plan, actor)
    return {
        "rehearsed": None if record is None else rehearsal_view(record),
        "rehearsed_words": "" if record is None else summary(rehearsal_answer(record)),
        "may_rehearse": may(actor, Scope.REHEARSE, plan.database),
        "may_in_place": rehearsing.may_in_place(plan.database, actor),
        "in_place_timeout": f"{rehearsing.in_place_timeout(plan.database):g} s",
    }


def rehearse(request: HttpRequest, actor: Actor) -> HttpResponse:
    wanted = forms.plan_request(request.POST)
    kind = request.POST.get("kind") or CopyKind.SCHEMA
    if kind not in list(CopyKind):
        raise InvalidRequest(
            f"kind must be one of {', '.join(CopyKind)}, not {kind[:50]!r}."
        )
    record = rehearsing.rehearse(
        rehearsing.RehearseRequest(
            database=wanted.database,
            targets=wanted.targets,
            phase=wanted.phase,
            fingerprint=request.POST.get("fingerprint", ""),
            kind=CopyKind(kind),
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
    view = rehearsal_view(record)
    response = render(
        request,
        actor,
        "rehearsal",
        {
            "title": f"Rehearsal {view.where} {record.database}",
            "rehearsal": view,
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
            "rehearsals": [rehearsal_view(record) for record in found],
            "is_first": before is None,
            "older": found[-1].id if len(found) == _PAGE else "",
        },
    )
