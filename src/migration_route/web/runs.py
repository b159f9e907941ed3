"""What does a page say about a run?

What does a page say about a line of the ledger?

What does the page of a run say about what happened in it?
"""

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
from migration_route.presentation.text.runs import cancel_effect, way_on, what_to_do
from migration_route.web.approvals import APPROVAL_SENTENCES
from migration_route.web.formatting import TONES, between, duration, moment, offset, words
from migration_route.web.plans import (
    OPENING_SENTENCES,
    ScheduleHoldView,
    SignalView,
    shut_view,
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
    """A line of the ledger as a page shows it."""

    record: EntryRecord
    sequence: str
    at: datetime | None
    action: str
    tone: str
    actor: str
    summary: str
    facts: str
    is_of_a_run: bool  # a denial may name a run that never was


def entry_view(record: EntryRecord) -> EntryView:
    """Return a line of the ledger as a page shows it."""
    return EntryView(
        record=record,
        sequence=str(record.sequence),
        at=moment(record.at),
        action=words(record.action),
        tone=_TONES.get(record.action, "quiet"),
        actor=record.actor_name or words(record.actor_kind),
        summary=_summary(record),
        is_of_a_run=_RUN.fullmatch(record.run) is not None,
        facts=json.dumps(record.facts, indent=2, ensure_ascii=False, sort_keys=True),
    )


def _summary(record: EntryRecord) -> str:
    """Return the one fact that tells most."""
    facts = record.facts
    match record.action:
        case Action.RUN_STATE:
            return words(str(facts.get("to", "")))
        case Action.STEP_STARTED:
            return str(facts.get("step", ""))
        case Action.STEP_FINISHED:
            return f"{facts.get('step', '')}: {words(str(facts.get('state', '')))}"
        case Action.DENIED | Action.REFUSED:
            return str(facts.get("message", ""))
        case _:
            return str(facts.get("reason", "") or "")


# What is told by the steps above the lines, or by the line that comes next.
_SILENT = frozenset({EventKind.OPERATION_FINISHED, EventKind.STATEMENT_RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class LineView:
    """An event as a line; `static/migration_route/route.js` makes the same."""

    offset: str  # "+1.24 s" after the run was asked for
    kind: str  # an `EventKind`, unless somebody has tampered with the row
    text: str
    duration: str
    details: str  # a traceback


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentActivity:
    """What is being done."""

    step: str
    operation: str
    statement: str  # one that has been running for a while
    since: str  # when the step began


def line_views(events: Iterable[EventRecord], *, since: str) -> list[LineView]:
    """Return the lines of a run, in order."""
    return [
        LineView(
            offset=offset(since, event.at),
            kind=event.kind,
            text=_text(event),
            duration=duration(event.duration_ms),
            details=str(event.facts.get("traceback") or ""),
        )
        for event in events
        if event.kind not in _SILENT
    ]


def _text(event: EventRecord) -> str:
    match event.kind:
        case EventKind.STATE:
            return f"State: {words(event.text)}"
        case EventKind.STEP_STARTED:
            return f"{event.text} begins"
        case EventKind.STEP_FINISHED:
            return f"{event.text} is done"
        case EventKind.STATEMENTS_OMITTED:
            return f"… and {event.facts.get('count', 'more')} more statements"
        case _:
            return event.text


def current_work(events: Iterable[EventRecord]) -> CurrentActivity | None:
    """Return what was begun last and has not ended."""
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
        RunState.HELD,
    }
)
_HOLDABLE = frozenset({RunState.QUEUED, RunState.WAITING, RunState.RUNNING})
_BETWEEN = frozenset({RunState.AWAITING_APPROVAL, RunState.QUEUED, RunState.HELD})
_FORCIBLE = (_CANCELLABLE - {RunState.AWAITING_APPROVAL}) | {
    RunState.CANCELLING,
    RunState.LOST,
}
_SENTENCES = {
    **APPROVAL_SENTENCES,
    RunState.QUEUED: ("Waiting for its process to start.", ""),
    RunState.WAITING: ("Waiting for its turn.", ""),
    RunState.HELD: ("Held before its next step: {so_far}.", ""),
    RunState.RUNNING: ("At work: {so_far}.", ""),
    RunState.CANCELLING: (
        "Is being stopped: {so_far}.",
        "The statement that is under way is cancelled.",
    ),
    RunState.LOST: (
        "Its heart has stopped: it is being found out what it left.",
        "Nothing new starts until that is known.",
    ),
    RunState.SUCCEEDED: ("Done: {migrations} {verb}, and the database says so.", ""),
    RunState.NOOP: ("There was nothing to do.", ""),
    RunState.FAILED: (
        "Failed: {so_far}.",
        "Mend the cause, then read the plan again: what is applied stays applied, and "
        "trying again is safe.",
    ),
    RunState.PARTIAL: (
        "Stopped midway: {so_far}, and one step is half done.",
        "Nothing else runs on this database until a person has put it right.",
    ),
    RunState.CANCELLED: (
        "Cancelled: {so_far}.",
        "What is left can be applied by a new run.",
    ),
    RunState.STALE: (
        "The plan had changed since it was read: {so_far}.",
        "Read the plan again.",
    ),
    RunState.RECONCILED: ("Put right by a person; {so_far} by the run itself.", ""),
}
_RUNS_TONES = {
    EffectState.IN: "good",
    EffectState.OUT: "quiet",
    EffectState.MIDWAY: "bad",
    EffectState.UNKNOWN: "warning",
}
_WAITING = {
    WaitingReason.BLOCKED: (
        "Waiting: others are using what it has to change.",
        "It goes on by itself when they are done. Others wait for it briefly, if at all.",
    ),
    WaitingReason.HEALTH: (
        "Held: this is not a good moment.",
        "It looks again by itself, and goes on when nothing stops it any more.",
    ),
    **OPENING_SENTENCES,
    WaitingReason.LOCK: ("Waiting: something else is migrating this database.", ""),
    WaitingReason.ORPHAN_BACKEND: (
        "Its processes are gone, but its session in the database is still alive.",
        "Nothing new starts until that session has ended: wait, or end it.",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppedOperationView:
    """An operation of a step that stopped."""

    number: int  # counted from 1
    description: str
    state_words: str
    tone: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStepView:
    """A step of a run as a page shows it."""

    label: str
    state: StepState
    state_words: str
    tone: str
    duration: str
    error: StepError | None
    operation: int | None  # the one that failed, counted from 1
    operations: tuple[
        StoppedOperationView, ...
    ]  # of one that stopped, in the order of execution


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockerView:
    """A session that is in the way, as a page shows it."""

    pid: int
    who: str
    state: str
    since: datetime | None
    query: str
    certain: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedView:
    """What a run waits for, as a page shows it."""

    tables: str
    attempt: int
    waited: str
    stalled: str
    blockers: tuple[BlockerView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run as a page shows it."""

    record: RunRecord
    state_words: str
    tone: str
    headline: str
    advice: str
    what_to_do: str  # about one that stopped midway
    way_on: str  # how that would be resolved
    steps: tuple[RunStepView, ...]
    done: int
    created: datetime | None
    started: datetime | None
    finished: datetime | None
    duration: str
    is_cancellable: bool
    is_holdable: bool
    is_resumable: bool
    looks_again: bool  # it waits for something that may be over sooner than it looks
    is_forcible: bool
    is_between: bool  # no step of it is under way
    leaves_midway: bool  # the step that a cancel stops is not rolled back as a whole
    cancel_effect: str  # what a cancel does to the step that is running
    orphan: dict[str, Any] | None  # the session that its processes have left
    shows_statements: bool  # they tell where it stopped
    blocked: BlockedView | None
    signals: tuple[SignalView, ...]  # that hold it, and those that are unknown
    next_look: datetime | None
    gives_up: datetime | None  # when it ends because the moment was never good
    shut: ScheduleHoldView | None  # what it waits for before it may begin, or go on
    begin_at: datetime | None  # before which it was not to begin
    shows_error: bool  # its error is not that of one of its steps


def run_view(record: RunRecord) -> RunView:
    """Return a run as a page shows it."""
    done = sum(step.state in _DONE for step in record.steps)
    orphan = record.waiting_facts.get("session") if record.is_active else None
    is_asked = record.asked == ControlRequest.HOLD
    signals = record.waiting_facts.get("signals", ())
    shut = shut_view(record)
    may_be_over = record.waits_to_begin and record.waiting_reason != WaitingReason.TIME
    looks_again = (bool(signals) or may_be_over) and not is_asked
    headline, advice = _sentences(record, done)
    answer = run_answer(record)
    return RunView(
        record=record,
        state_words=words(record.state),
        tone=TONES.get(record.state, "quiet"),
        headline=headline,
        advice=advice,
        what_to_do=what_to_do(answer) if record.state is RunState.PARTIAL else "",
        way_on=way_on(answer),
        steps=tuple(map(_step_view, record.steps)),
        done=done,
        created=moment(record.created_at),
        started=moment(record.started_at),
        finished=moment(record.finished_at),
        duration=duration(between(record.started_at, record.finished_at)),
        is_cancellable=record.state in _CANCELLABLE or orphan is not None,
        is_holdable=(record.state in _HOLDABLE or bool(signals) or shut is not None)
        and not is_asked,
        is_resumable=(record.state is RunState.HELD and shut is None)
        or (record.state in _HOLDABLE and is_asked)
        or looks_again,
        looks_again=looks_again,
        is_forcible=record.state in _FORCIBLE,
        is_between=record.state in _BETWEEN or record.waits_to_begin,
        leaves_midway=any(
            step.state is StepState.APPLYING and not step.rolls_back
            for step in record.steps
        ),
        cancel_effect=cancel_effect(answer),
        orphan=orphan,
        shows_statements=record.state in {RunState.FAILED, RunState.PARTIAL, RunState.LOST},
        blocked=_blocked_view(record.waiting_facts),
        signals=signal_views(signals),
        next_look=moment(record.waiting_until) if signals else None,
        gives_up=moment(record.waiting_facts.get("gives_up", "")),
        shut=shut,
        begin_at=moment(record.begin_at),
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
        waited=duration(facts["waited_ms"]),
        stalled=duration(facts["stalled_ms"]),
        blockers=tuple(map(_blocker_view, facts["blockers"])),
    )


def _blocker_view(facts: dict[str, Any]) -> BlockerView:
    return BlockerView(
        pid=facts["pid"],
        who=", ".join(filter(None, (facts["user"], facts["application"]))),
        state=facts["state"],
        since=moment(facts["since"]),
        query=facts["query"],
        certain=facts["certain"],
    )


def _step_view(step: StepRecord) -> RunStepView:
    error = step.error
    return RunStepView(
        label=step.label,
        state=step.state,
        state_words=words(step.state),
        tone=TONES.get(step.state, "quiet"),
        duration=duration(step.duration_ms),
        error=error,
        operation=None if error is None or error.operation is None else error.operation + 1,
        operations=tuple(
            StoppedOperationView(
                number=found.position + 1,
                description=found.description,
                state_words=words(found.state),
                tone=_RUNS_TONES[found.state],
            )
            for found in step.operations or ()
        ),
    )


def _sentences(run: RunRecord, done: int) -> tuple[str, str]:
    """Return what is so, and what to do about it."""
    count = len(run.steps)
    migrations = f"{count} migration{'' if count == 1 else 's'}"
    verb = "reversed" if run.direction is Direction.BACKWARDS else "applied"
    so_far = f"{done} of {migrations} {verb}"
    if run.waiting_reason in _WAITING:
        return _WAITING[WaitingReason(run.waiting_reason)]
    headline, advice = _SENTENCES.get(
        run.state, (f"It is {words(run.state)}: {so_far}.", "")
    )
    if run.state is RunState.FAILED and _has_failed_step(run):
        headline += " The step that failed left nothing behind."
    if run.state is RunState.CANCELLED and _has_failed_step(run):
        headline += " The step that was under way left nothing behind."
    if run.state is RunState.RUNNING and run.asked == ControlRequest.HOLD:
        advice = "It waits before its next step: somebody has asked it to."
    return headline.format(migrations=migrations, verb=verb, so_far=so_far), advice


def _has_failed_step(run: RunRecord) -> bool:
    return any(step.state is StepState.FAILED for step in run.steps)
