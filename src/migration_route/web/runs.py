"""Views of runs, their events and ledger entries, as the pages show them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from migration_route.core.enums import (
    Action,
    ControlRequest,
    Direction,
    EffectState,
    EventKind,
    RunState,
    StepState,
    WaitingReason,
)
from migration_route.ledger.evidence import CANCELLED, StepError
from migration_route.ledger.records import EntryRecord, EventRecord, RunRecord, StepRecord
from migration_route.presentation.serializers import run_answer
from migration_route.presentation.text.runs import (
    cancel_effect,
    suggested_resolution,
    what_to_do,
)
from migration_route.web.approvals import APPROVAL_SENTENCES
from migration_route.web.formatting import (
    TONES,
    elapsed_ms,
    format_duration,
    format_offset,
    parse_optional_time,
    readable,
)
from migration_route.web.plans import (
    OPENING_SENTENCES,
    ScheduleHoldView,
    SignalView,
    schedule_hold_view,
    signal_views,
)

_RUN = re.compile(r"[0-9a-f]{32}")
_TONES: dict[str, str] = {
    Action.DENIED: "bad",
    Action.REFUSED: "warning",
    Action.RESOLVED: "warning",
    Action.APPROVED: "good",
    Action.REJECTED: "bad",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryView:
    record: EntryRecord
    sequence: str
    at: datetime | None
    action: str
    tone: str
    actor: str
    summary: str
    facts: str
    is_of_a_run: bool  # a denial may name a run that does not exist


def entry_view(record: EntryRecord) -> EntryView:
    return EntryView(
        record=record,
        sequence=str(record.sequence),
        at=parse_optional_time(record.at),
        action=readable(record.action),
        tone=_TONES.get(record.action, "quiet"),
        actor=record.actor_name or readable(record.actor_kind),
        summary=_summary(record),
        is_of_a_run=_RUN.fullmatch(record.run) is not None,
        facts=json.dumps(record.facts, indent=2, ensure_ascii=False, sort_keys=True),
    )


def _summary(record: EntryRecord) -> str:
    """Return the most informative fact."""
    facts = record.facts
    match record.action:
        case Action.RUN_STATE:
            return readable(str(facts.get("to", "")))
        case Action.STEP_STARTED:
            return str(facts.get("step", ""))
        case Action.STEP_FINISHED:
            return f"{facts.get('step', '')}: {readable(str(facts.get('state', '')))}"
        case Action.DENIED | Action.REFUSED:
            return str(facts.get("message", ""))
        case _:
            return str(facts.get("reason", "") or "")


# Shown by the steps above the log, or by the line that follows.
_SILENT = frozenset({EventKind.OPERATION_FINISHED, EventKind.STATEMENT_RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class LineView:
    """An event as a line of the log; `static/migration_route/route.js` renders the same."""

    offset: str  # since the run was requested, as "+1.24 s"
    kind: str  # an `EventKind`, unless the row was tampered with
    text: str
    duration: str
    details: str  # a traceback


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentActivity:
    """What a run is executing."""

    step: str
    operation: str
    statement: str  # a long-running one
    since: str  # when the step started


def line_views(events: Iterable[EventRecord], *, since: str) -> list[LineView]:
    return [
        LineView(
            offset=format_offset(since, event.at),
            kind=event.kind,
            text=_text(event),
            duration=format_duration(event.duration_ms),
            details=str(event.facts.get("traceback") or ""),
        )
        for event in events
        if event.kind not in _SILENT
    ]


def _text(event: EventRecord) -> str:
    match event.kind:
        case EventKind.STATE:
            return f"State: {readable(event.text)}"
        case EventKind.STEP_STARTED:
            return f"{event.text} started"
        case EventKind.STEP_FINISHED:
            return f"{event.text} finished"
        case EventKind.STATEMENTS_OMITTED:
            return f"… and {event.facts.get('count', 'more')} more statements"
        case _:
            return event.text


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
                work = replace(work, operation=event.text, statement="")
            case EventKind.STATEMENT_RUNNING if work:
                work = replace(work, statement=event.text)
            case EventKind.STATEMENT if work:
                work = replace(work, statement="")
            case _:
                pass
    return work


_DONE = frozenset({StepState.APPLIED, StepState.REVERTED})
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
    **APPROVAL_SENTENCES,
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
_RUNS_TONES = {
    EffectState.PRESENT: "good",
    EffectState.ABSENT: "quiet",
    EffectState.PARTIAL: "bad",
    EffectState.UNKNOWN: "warning",
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
    **OPENING_SENTENCES,
    WaitingReason.LOCK: ("Waiting: another process is migrating this database.", ""),
    WaitingReason.ORPHANED_SESSION: (
        "The run's processes are gone, but its database session is still open.",
        "No other run starts until that session has ended. Wait, or terminate it.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedOperationView:
    """An operation of a step that stopped partway."""

    number: int  # counted from 1
    description: str
    state_words: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStepView:
    label: str
    state: StepState
    state_words: str
    tone: str
    duration: str
    error: StepError | None
    operation: int | None  # the one that failed, counted from 1
    operations: tuple[
        StoppedOperationView, ...
    ]  # of a step that stopped partway, in the order of execution


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockerView:
    """A blocking session."""

    pid: int
    who: str
    state: str
    since: datetime | None
    query: str
    certain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedView:
    """The locks a run waits for, and the sessions that block it."""

    tables: str
    attempt: int
    waited: str
    stalled: str
    blockers: tuple[BlockerView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    record: RunRecord
    state_words: str
    tone: str
    headline: str
    advice: str
    what_to_do: str  # of a partial run
    way_on: str  # the suggested resolution
    steps: tuple[RunStepView, ...]
    done: int
    created: datetime | None
    started: datetime | None
    finished: datetime | None
    duration: str
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
    blocked: BlockedView | None
    signals: tuple[SignalView, ...]  # those that block it, and unknown ones
    next_check: datetime | None
    gives_up: datetime | None  # when it ends if a signal still blocks it
    schedule_hold: ScheduleHoldView | None  # what its start or next step waits for
    not_before: datetime | None  # the requested start time
    shows_error: bool  # none of its steps has this error


def run_view(record: RunRecord) -> RunView:
    done = sum(step.state in _DONE for step in record.steps)
    orphan = record.waiting_facts.get("session") if record.is_active else None
    is_pause_requested = record.control_request == ControlRequest.PAUSE
    signals = record.waiting_facts.get("signals", ())
    schedule_hold = schedule_hold_view(record)
    may_be_over = record.waits_to_begin and record.waiting_reason != WaitingReason.TIME
    can_recheck = (bool(signals) or may_be_over) and not is_pause_requested
    headline, advice = _sentences(record, done)
    answer = run_answer(record)
    return RunView(
        record=record,
        state_words=readable(record.state),
        tone=TONES.get(record.state, "quiet"),
        headline=headline,
        advice=advice,
        what_to_do=what_to_do(answer) if record.state is RunState.PARTIAL else "",
        way_on=suggested_resolution(answer),
        steps=tuple(map(_step_view, record.steps)),
        done=done,
        created=parse_optional_time(record.created_at),
        started=parse_optional_time(record.started_at),
        finished=parse_optional_time(record.finished_at),
        duration=format_duration(elapsed_ms(record.started_at, record.finished_at)),
        is_cancellable=record.state in _CANCELLABLE or orphan is not None,
        is_pausable=(
            record.state in _PAUSABLE or bool(signals) or schedule_hold is not None
        )
        and not is_pause_requested,
        is_resumable=(record.state is RunState.PAUSED and schedule_hold is None)
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
        blocked=_blocked_view(record.waiting_facts),
        signals=signal_views(signals),
        next_check=parse_optional_time(record.waiting_until) if signals else None,
        gives_up=parse_optional_time(record.waiting_facts.get("gives_up", "")),
        schedule_hold=schedule_hold,
        not_before=parse_optional_time(record.not_before),
        shows_error=record.error is not None
        and (
            record.error.type == CANCELLED or not any(step.error for step in record.steps)
        ),
    )


def _blocked_view(facts: dict[str, Any]) -> BlockedView | None:
    if not facts.get("attempt"):
        return None
    return BlockedView(
        tables=", ".join(facts["tables"]),
        attempt=facts["attempt"],
        waited=format_duration(facts["waited_ms"]),
        stalled=format_duration(facts["blocking_ms"]),
        blockers=tuple(map(_blocker_view, facts["blockers"])),
    )


def _blocker_view(facts: dict[str, Any]) -> BlockerView:
    return BlockerView(
        pid=facts["pid"],
        who=", ".join(filter(None, (facts["user"], facts["application"]))),
        state=facts["state"],
        since=parse_optional_time(facts["since"]),
        query=facts["query"],
        certain=facts["certain"],
    )


def _step_view(step: StepRecord) -> RunStepView:
    error = step.error
    return RunStepView(
        label=step.label,
        state=step.state,
        state_words=readable(step.state),
        tone=TONES.get(step.state, "quiet"),
        duration=format_duration(step.duration_ms),
        error=error,
        operation=None if error is None or error.operation is None else error.operation + 1,
        operations=tuple(
            StoppedOperationView(
                number=found.position + 1,
                description=found.description,
                state_words=readable(found.state),
                tone=_RUNS_TONES[found.state],
            )
            for found in step.operations or ()
        ),
    )


def _sentences(run: RunRecord, done: int) -> tuple[str, str]:
    """Return the headline and the advice."""
    count = len(run.steps)
    migrations = f"{count} migration{'' if count == 1 else 's'}"
    verb = "reversed" if run.direction is Direction.BACKWARDS else "applied"
    so_far = f"{done} of {migrations} {verb}"
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
