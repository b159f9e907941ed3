"""The pages of a rehearsal: the button's address, and the report."""

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
from migration_route.web.formatting import TONES, duration, moment, words
from migration_route.web.rendering import render

_LOOK_AGAIN = "2"  # seconds until a browser asks again, while it is under way
_PAGE = 25
_TONES = {
    RehearsalState.SUCCEEDED: "good",
    RehearsalState.FAILED: "bad",
}
_HEADLINES = {
    RehearsalState.QUEUED: "Waiting for its process to start.",
    RehearsalState.COPYING: "The copy is being made.",
    RehearsalState.RUNNING: "The plan is being carried out on the copy.",
    RehearsalState.SUCCEEDED: "Everything went through, on a copy.",
    RehearsalState.FAILED: "It does not go through.",
}


_HEADLINES_IN_PLACE = {
    **_HEADLINES,
    RehearsalState.RUNNING: "The plan is being carried out in place, to be rolled back.",
    RehearsalState.SUCCEEDED: "Everything went through, and was rolled back.",
    RehearsalState.FAILED: "It did not go through, and was rolled back.",
}
_STILL_THERE = frozenset({"NotRolledBack", "OrphanBackend"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LockView:
    """A lock as the page shows it."""

    lock: ObservedLock
    held: str
    waits: str  # who would wait meanwhile
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementView:
    """A statement as the page shows it."""

    statement: ObservedStatement
    took: str
    locks: tuple[LockView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsedOperationView:
    """An operation as the page shows it."""

    operation: ObservedOperation
    took: str
    queries: str
    statements: tuple[StatementView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsedStepView:
    """A step as the page shows it."""

    step: ObservedStep
    state_words: str
    tone: str
    took: str
    error: ObservedError | None
    number: int | None  # of the operation that failed, counted from 1
    operations: tuple[RehearsedOperationView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalView:
    """A rehearsal as the page shows it."""

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
    differences: str | None  # None: not compared
    limits: tuple[Limitation, ...]
    shows_error: bool  # its error is not that of one of its steps


def rehearsal_view(record: RehearsalRecord) -> RehearsalView:
    """Return a rehearsal as a page shows it."""
    report = record.report
    longest = report.longest_lock()
    back = tuple(map(_step_view, report.back or ()))
    steps = tuple(map(_step_view, report.steps))
    return RehearsalView(
        record=record,
        state_words=words(record.state),
        tone=_TONES.get(record.state, "busy"),
        headline=_headline(record),
        kind=_kind(record),
        where="in place, on" if record.in_place else "on a copy of",
        created=moment(record.created_at),
        finished=moment(record.finished_at),
        copied=duration(report.copy_ms),
        took=duration(report.duration_ms),
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
    if record.error is not None and record.error.type in _STILL_THERE:
        return "It is not certain that everything was rolled back."
    if record.unrehearsed:
        count = len(record.steps)
        return (
            f"{count - record.unrehearsed} of {count} steps went through, and were rolled "
            "back; the others cannot be rehearsed in place."
        )
    return _HEADLINES_IN_PLACE[record.state]


def _kind(record: RehearsalRecord) -> str:
    if record.in_place:
        return "in place"
    return "with its data" if record.kind is CopyKind.DATA else "of the schema alone"


def _step_view(step: ObservedStep) -> RehearsedStepView:
    position = None if step.error is None else step.error.operation
    return RehearsedStepView(
        step=step,
        state_words=words(step.state),
        tone=next((tone for state, tone in TONES.items() if state == step.state), "quiet"),
        took=duration(step.duration_ms),
        error=step.error,
        number=None if position is None else position + 1,
        operations=tuple(
            RehearsedOperationView(
                operation=found,
                took=duration(found.duration_ms),
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
    waits, tone = "other changes of the schema wait", "quiet"
    if "reads" in lock.blocks:
        waits, tone = "readers and writers wait", "bad"
    elif "writes" in lock.blocks:
        waits, tone = "writers wait", "warning"
    elif not lock.blocks:
        waits = "only who drops or rewrites it waits"
    return LockView(lock=lock, held=duration(lock.held_ms), waits=waits, tone=tone)


def rehearsed(plan: Plan, actor: Actor) -> dict[str, object]:
    """Return what the page of a plan says of its last rehearsal."""
    record = rehearsing.of_plan(plan, actor)
    return {
        "rehearsed": None if record is None else rehearsal_view(record),
        "rehearsed_words": "" if record is None else summary(rehearsal_answer(record)),
        "may_rehearse": may(actor, Scope.REHEARSE, plan.database),
        "may_in_place": rehearsing.may_in_place(plan.database, actor),
        "in_place_limit": f"{rehearsing.in_place_timeout(plan.database):g} s",
    }


def rehearse(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Start the rehearsal of the plan that was read."""
    wanted = forms.plan_request(request.POST)
    kind = request.POST.get("kind") or CopyKind.SCHEMA
    if kind not in list(CopyKind):
        raise InvalidRequest(f"kind is one of {', '.join(CopyKind)}, not {kind[:50]!r}.")
    record = rehearsing.rehearse(
        rehearsing.RehearseRequest(
            database=wanted.database,
            targets=wanted.targets,
            phase=wanted.phase,
            fingerprint=request.POST.get("fingerprint", ""),
            kind=CopyKind(kind),
            and_back=request.POST.get("and_back") == "on",
            in_place=request.POST.get("in_place") == "on",
            reason=forms.reason(request.POST),
        ),
        actor,
    )
    return redirect("migration_route:rehearsal", rehearsal=record.id)


def show(request: HttpRequest, actor: Actor, rehearsal: str) -> HttpResponse:
    """Show what a rehearsal has seen; a browser asks again while it is under way."""
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
        response["Refresh"] = _LOOK_AGAIN
    return response


def listing(request: HttpRequest, actor: Actor) -> HttpResponse:
    """Show rehearsals, newest first."""
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
