"""Views of runs, their events and their approvals, as the pages show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from migration_route.access.actors import Actor
from migration_route.core import clock
from migration_route.core.enums import (
    ControlRequest,
    Direction,
    EventKind,
    Resolution,
    RunState,
    StepState,
    WaitingReason,
)
from migration_route.core.errors import RouteError
from migration_route.core.risk import Risk, risk_of
from migration_route.ledger.records import CANCELLED, EntryRecord, EventRecord, RunRecord
from migration_route.planning.plan import DEFAULT_DETAILS, same_plan
from migration_route.presentation import schemas
from migration_route.presentation.serializers import approval_answer, run_answer
from migration_route.presentation.text.runs import (
    approval_requirement_words,
    cancel_effect,
    permission_words,
    remaining_line,
    suggested_resolution,
    what_to_do,
)
from migration_route.services import approvals as approving
from migration_route.services import plans as planning
from migration_route.services.plans import request_of
from migration_route.web.activity import (
    Activity,
    Failure,
    activities,
    decisive,
    failure_of,
)
from migration_route.web.filters import done_count, readable, tone
from migration_route.web.plans import PlanView, plan_view
from migration_route.web.timeline import Bar, timeline

# Shown by the steps above the log, or by the line that follows.
_SILENT = frozenset(
    {EventKind.OPERATION_FINISHED, EventKind.STATEMENT_RUNNING, EventKind.PROGRESS}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentActivity:
    """What a run is executing."""

    step: str
    operation: str
    statement: str  # a long-running one
    since: str  # when the step started
    progress: str = ""  # of the operation or the statement
    done: int = 0
    total: int = 0  # 0: not known


def log_events(events: Iterable[EventRecord]) -> list[EventRecord]:
    """Return the events that are lines of the log."""
    return [event for event in events if event.kind not in _SILENT]


def current_activity(events: Iterable[EventRecord]) -> CurrentActivity | None:
    """Return what started last and has not ended; None if nothing has."""
    work: CurrentActivity | None = None
    for event in events:
        match event.kind:
            case EventKind.STEP_STARTED:
                work = CurrentActivity(
                    step=event.text, operation="", statement="", since=event.at
                )
            case EventKind.STEP_FINISHED:
                work = None
            case EventKind.OPERATION_STARTED if work:
                work = replace(
                    work, operation=event.text, statement="", progress="", total=0
                )
            case EventKind.STATEMENT_RUNNING if work:
                work = replace(work, statement=event.text)
            case EventKind.STATEMENT if work:
                work = replace(work, statement="")
            case EventKind.PROGRESS if work:
                work = replace(
                    work,
                    progress=event.text,
                    done=event.facts.get("done") or 0,
                    total=event.facts.get("total") or 0,
                )
            case _:
                pass
    return work


_CANCELLABLE = frozenset(
    {
        RunState.AWAITING_APPROVAL,
        RunState.QUEUED,
        RunState.WAITING,
        RunState.RUNNING,
        RunState.PAUSED,
    }
)
_PAUSABLE = frozenset({RunState.QUEUED, RunState.WAITING, RunState.RUNNING})
_BETWEEN_STEPS = frozenset({RunState.AWAITING_APPROVAL, RunState.QUEUED, RunState.PAUSED})
_FORCIBLE = (_CANCELLABLE - {RunState.AWAITING_APPROVAL}) | {
    RunState.CANCELLING,
    RunState.LOST,
}
_SENTENCES = {
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
    RunState.QUEUED: ("Waiting for the supervisor to start.", ""),
    RunState.WAITING: ("Waiting to start.", ""),
    RunState.PAUSED: ("Paused before its next step: {so_far}.", ""),
    RunState.RUNNING: ("Running: {so_far}.", ""),
    RunState.CANCELLING: (
        "Cancelling: {so_far}.",
        "The running statement is being cancelled.",
    ),
    RunState.LOST: (
        "The run stopped responding; checking what it left behind.",
        "No other run starts until that is known.",
    ),
    RunState.SUCCEEDED: ("{migrations} {verb} and verified.", ""),
    RunState.NOOP: ("Nothing to do.", ""),
    RunState.FAILED: (
        "Failed: {so_far}.",
        "Fix the cause, then review the plan again. What is applied stays applied, and "
        "retrying is safe.",
    ),
    RunState.PARTIAL: (
        "Stopped partway: {so_far}, and one step is half applied.",
        "No other run starts on this database until a user resolves this one.",
    ),
    RunState.CANCELLED: (
        "Cancelled: {so_far}.",
        "A new run can apply the rest.",
    ),
    RunState.STALE: (
        "The plan had changed since it was reviewed: {so_far}.",
        "Review the plan again.",
    ),
    RunState.RESOLVED: ("Resolved by a user; {so_far} by the run itself.", ""),
}
_WAITING = {
    WaitingReason.BLOCKED: (
        "Blocked by another session.",
        "The run retries automatically. Other sessions wait for it briefly, if at all.",
    ),
    WaitingReason.HEALTH: (
        "Paused: a health signal blocks the next step.",
        "The run checks again automatically and continues when no signal blocks it.",
    ),
    WaitingReason.TIME: (
        "Waiting for the scheduled time.",
        "The run starts automatically, in its own process. Nothing has started.",
    ),
    WaitingReason.WINDOW: (
        "Waiting: no window is open.",
        "The run continues automatically when one opens.",
    ),
    WaitingReason.FREEZE: (
        "Waiting: a freeze is in effect.",
        "The run starts automatically when the freeze ends.",
    ),
    WaitingReason.NO_WORKER: (
        "Waiting for a worker: no process has claimed the run yet.",
        "The run starts when a worker claims it: 'manage.py migration_route worker', or a "
        "worker of the task queue. Nothing has started.",
    ),
    WaitingReason.LOCK: ("Waiting: another process is migrating this database.", ""),
    WaitingReason.ORPHANED_SESSION: (
        "The run's processes are gone, but its database session is still open.",
        "No other run starts until that session has ended. Wait, or terminate it.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run, its texts, and what a user may do about it."""

    record: RunRecord
    headline: str
    advice: str
    expected: str
    what_to_do: str  # of a partial run
    suggested_resolution: Resolution
    is_cancellable: bool
    is_pausable: bool
    is_resumable: bool
    can_recheck: bool  # what it waits for may end before its next check
    is_forcible: bool
    is_between_steps: bool  # no step is running
    leaves_partial_step: bool  # a cancel can leave the running step half applied
    cancel_effect: str  # what a cancel does to the running step
    orphan: dict[str, Any] | None  # the orphaned session
    shows_statements: bool  # they show where the run stopped
    is_scheduled: bool  # its start or next step waits for a time, window, freeze or worker
    shows_error: bool  # none of its steps has this error
    tab: str  # the title of the browser's tab
    decisive: Activity | None = None  # who brought it into its state
    activities: tuple[Activity, ...] = ()
    failure: Failure | None = None
    bars: tuple[Bar, ...] = ()  # of the steps


def live_view(
    record: RunRecord, entries: Sequence[EntryRecord], events: Sequence[EventRecord]
) -> RunView:
    """Return the view of a run with its history.

    `entries` are what users did with it, `events` the starts, ends and errors of its steps.
    """
    return replace(
        run_view(record),
        decisive=decisive(record, entries),
        activities=tuple(activities(entries)),
        failure=failure_of(events),
        bars=tuple(timeline(record, events, now=clock.format_time(clock.database_now()))),
    )


_MARKS = {"good": "✓", "bad": "✗", "busy": "▶", "warning": "⏸"}


def _tab(record: RunRecord) -> str:
    """Return a title that tells the state among many tabs: "✓ 3/4 default"."""
    mark = _MARKS.get(tone(record.state), "…")
    return f"{mark} {done_count(record.steps)}/{len(record.steps)} {record.database}"


def run_view(record: RunRecord) -> RunView:
    orphan = record.waiting_facts.get("session") if record.is_active else None
    is_pause_requested = record.control_request == ControlRequest.PAUSE
    has_signals = bool(record.waiting_facts.get("signals"))
    is_scheduled = record.waits_to_begin or record.waiting_reason == WaitingReason.WINDOW
    may_be_over = record.waits_to_begin and record.waiting_reason != WaitingReason.TIME
    can_recheck = (has_signals or may_be_over) and not is_pause_requested
    headline, advice = _sentences(record)
    answer = run_answer(record)
    return RunView(
        record=record,
        headline=headline,
        advice=advice,
        expected=remaining_line(answer),
        what_to_do=what_to_do(answer) if record.state is RunState.PARTIAL else "",
        suggested_resolution=suggested_resolution(answer),
        is_cancellable=record.state in _CANCELLABLE or orphan is not None,
        is_pausable=(record.state in _PAUSABLE or has_signals or is_scheduled)
        and not is_pause_requested,
        is_resumable=(record.state is RunState.PAUSED and not is_scheduled)
        or (record.state in _PAUSABLE and is_pause_requested)
        or can_recheck,
        can_recheck=can_recheck,
        is_forcible=record.state in _FORCIBLE,
        is_between_steps=record.state in _BETWEEN_STEPS or record.waits_to_begin,
        leaves_partial_step=any(
            step.state is StepState.APPLYING and not step.rolls_back
            for step in record.steps
        ),
        cancel_effect=cancel_effect(answer),
        orphan=orphan,
        shows_statements=record.state in {RunState.FAILED, RunState.PARTIAL, RunState.LOST},
        is_scheduled=is_scheduled,
        shows_error=record.error is not None
        and (
            record.error.type == CANCELLED or not any(step.error for step in record.steps)
        ),
        tab=_tab(record),
    )


def _sentences(run: RunRecord) -> tuple[str, str]:
    """Return the headline and the advice."""
    count = len(run.steps)
    migrations = f"{count} migration{'' if count == 1 else 's'}"
    verb = "reversed" if run.direction is Direction.BACKWARDS else "applied"
    so_far = f"{done_count(run.steps)} of {migrations} {verb}"
    if run.waiting_reason in _WAITING:
        return _WAITING[WaitingReason(run.waiting_reason)]
    headline, advice = _SENTENCES.get(
        run.state, (f"The run is {readable(run.state)}: {so_far}.", "")
    )
    if run.state is RunState.FAILED and _has_failed_step(run):
        headline += " The failed step left nothing behind."
    if run.state is RunState.CANCELLED and _has_failed_step(run):
        headline += " The interrupted step left nothing behind."
    if run.state is RunState.RUNNING and run.control_request == ControlRequest.PAUSE:
        advice = "The run pauses before its next step, as requested."
    return headline.format(migrations=migrations, verb=verb, so_far=so_far), advice


def _has_failed_step(run: RunRecord) -> bool:
    return any(step.state is StepState.FAILED for step in run.steps)


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
    risk: Risk | None  # of that plan
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
        risk=risk_of(plan.findings) if plan else None,
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
