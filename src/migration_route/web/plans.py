"""Views of databases, plans, health signals and schedules, as the pages show them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import QueryDict
from django.utils import timezone

from migration_route.access.actors import Actor, may
from migration_route.core import clock
from migration_route.core.enums import Direction, Phase, Scope, Severity, WaitingReason
from migration_route.core.errors import InvalidRequest
from migration_route.core.values import SignalState
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import (
    DatabaseStatus,
    Details,
    Finding,
    Operation,
    Plan,
    Step,
)
from migration_route.policy.decision import is_rebuilt, scopes_for
from migration_route.policy.health_gate import HealthDecision, Pause
from migration_route.policy.schedule import (
    HORIZON,
    NeverOpens,
    OpensLater,
    Schedule,
    exists_in_timezone,
    instant,
)
from migration_route.presentation.schemas import PlanStepAnswer, TableAnswer
from migration_route.presentation.serializers import plan_answer
from migration_route.presentation.text.plans import estimate_line, operation_lines
from migration_route.web.formatting import parse_optional_time, readable, vendor_name

_WAITS_FOR: dict[str, str] = {
    WaitingReason.TIME: "scheduled for later",
    WaitingReason.WINDOW: "no window is open",
    WaitingReason.FREEZE: "a freeze is in effect",
    WaitingReason.NO_WORKER: "no worker has claimed it yet",
    WaitingReason.HEALTH: "a health signal blocks it",
    WaitingReason.PAUSED: "on request",
    WaitingReason.BLOCKED: "blocked by another session",
    WaitingReason.LOCK: "another process is migrating this database",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseView:
    """A database as the dashboard shows it."""

    status: DatabaseStatus
    vendor: str
    waits_for: str  # what its active run waits for; "" for nothing
    until: datetime | None


def database_view(status: DatabaseStatus) -> DatabaseView:
    return DatabaseView(
        status=status,
        vendor=vendor_name(status.vendor),
        waits_for=_WAITS_FOR.get(
            status.active_waits_for, readable(status.active_waits_for)
        ),
        until=parse_optional_time(status.active_until),
    )


_TONES = {
    SignalState.NORMAL: "good",
    SignalState.STOP: "bad",
    SignalState.UNKNOWN: "warning",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalView:
    name: str
    state: str
    tone: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """The health of a database before a plan is applied."""

    is_good: bool
    abnormal: tuple[SignalView, ...]  # those that stop a run, and unknown ones
    normal: tuple[SignalView, ...]


def health_view(decision: HealthDecision) -> HealthView:
    views = signal_views(signal.to_dict() for signal in decision.signals)
    return HealthView(
        is_good=not isinstance(decision, Pause),
        abnormal=tuple(one for one in views if one.state != SignalState.NORMAL),
        normal=tuple(one for one in views if one.state == SignalState.NORMAL),
    )


def signal_views(signals: Iterable[Mapping[str, Any]]) -> tuple[SignalView, ...]:
    """Return the views of stored signals."""
    return tuple(
        SignalView(
            name=readable(signal["name"]),
            state=signal["state"],
            tone=_TONES[SignalState(signal["state"])],
            reason=signal["reason"],
        )
        for signal in signals
    )


_INPUT_FORMAT = "%Y-%m-%dT%H:%M"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningView:
    """When a run may start, and the bounds of the field for its start time."""

    at: datetime | None  # None for now or never
    is_never: bool
    why: str  # "" if a run may start now
    zone: str  # the time zone of the field
    least: str  # in the format of a datetime-local field
    most: str
    typed: str  # the value of the field, when the page is shown again


def opening_view(schedule: Schedule, *, typed: str = "") -> OpeningView:
    now = clock.database_now().astimezone(timezone.get_current_timezone())
    return OpeningView(
        at=schedule.at if isinstance(schedule, OpensLater) else None,
        is_never=isinstance(schedule, NeverOpens),
        why=schedule.why if isinstance(schedule, OpensLater | NeverOpens) else "",
        zone=timezone.get_current_timezone_name(),
        least=now.strftime(_INPUT_FORMAT),
        most=(now + HORIZON).strftime(_INPUT_FORMAT),
        typed=typed,
    )


def read_start_time(data: QueryDict) -> datetime | None:
    """Return the requested start time, in the current time zone unless it names one; None
    for none. Raises `InvalidRequest`."""
    text = data.get("at", "").strip()
    if not text:
        return None
    try:
        wall = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"{text[:50]!r} is not a valid start time.") from error
    if wall.tzinfo is not None:
        return wall
    zone = timezone.get_current_timezone()
    try:
        exists = exists_in_timezone(wall, zone)
    except OverflowError as error:
        raise InvalidRequest(f"{text[:50]!r} is out of range.") from error
    if not exists:
        raise InvalidRequest(
            f"{text[:50]} does not exist in {timezone.get_current_timezone_name()}: clocks "
            "are set forward that day.",
            hint="Choose an earlier or a later time.",
        )
    return instant(wall, zone)


OPENING_SENTENCES = {
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
}
"""Headline and advice by waiting reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleHoldView:
    """The schedule that keeps a run from starting, or from its next step."""

    opens: datetime | None
    why: str


def schedule_hold_view(record: RunRecord) -> ScheduleHoldView | None:
    """Return None unless the run waits for its time, a window, a freeze or a worker."""
    is_window = record.waiting_reason == WaitingReason.WINDOW
    if not (record.waits_to_begin or is_window):
        return None
    why = record.waiting_facts.get("why", "")
    return ScheduleHoldView(opens=parse_optional_time(record.waiting_until), why=why)


_ORDER = (Severity.BLOCKING, Severity.WARNING, Severity.INFO)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """An operation with the forecast of its statements, a line each."""

    operation: Operation
    forecast: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """A step with its worst finding and its forecasts."""

    step: Step
    worst: Severity | None
    is_detailed: bool  # its SQL is loaded, as far as it can be known
    operations: tuple[OperationView, ...]
    took: str  # the duration of an earlier run; "" if none is recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseChoice:
    """A link to the plan of one phase, or of all phases."""

    phase: Phase | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    plan: Plan
    steps: tuple[StepView, ...]
    findings: tuple[Finding, ...]  # the most severe first
    is_backwards: bool
    is_blocked: bool  # a run of it would be refused
    rebuilt: tuple[Finding, ...]  # invalid indexes that the run rebuilds on request
    missing: tuple[Scope, ...]  # the scopes that the user lacks to run it
    verb: str  # the label of the button
    vendor: str
    phases: tuple[PhaseChoice, ...]  # empty if there is no choice
    not_transactional: int  # steps that can be left half applied
    first_undetailed: Step | None  # the first step whose SQL is not loaded

    @property
    def grave(self) -> tuple[Finding, ...]:
        """The findings above severity `info`."""
        return tuple(one for one in self.findings if one.severity is not Severity.INFO)

    @property
    def minor(self) -> tuple[Finding, ...]:
        """The findings of severity `info`."""
        return tuple(one for one in self.findings if one.severity is Severity.INFO)

    @property
    def is_offered(self) -> bool:
        """Whether the page shows the button."""
        return bool(self.steps) and not self.missing and not self.is_blocked


def plan_view(plan: Plan, actor: Actor, details: Details) -> PlanView:
    needed = scopes_for(direction=plan.direction, mode=plan.mode)
    detailed_to = len(plan.steps) if plan.details_next is None else plan.details_next
    answer = plan_answer(plan)
    findings = sorted(plan.findings, key=lambda found: _ORDER.index(found.severity))
    return PlanView(
        plan=plan,
        steps=tuple(
            StepView(
                step=step,
                worst=_worst(step, findings),
                took=estimate_line(step_answer.estimate),
                is_detailed=details.after <= position < detailed_to,
                operations=_operation_views(step, step_answer, answer.tables),
            )
            for position, (step, step_answer) in enumerate(
                zip(plan.steps, answer.steps, strict=True)
            )
        ),
        findings=tuple(findings),
        is_backwards=plan.direction is Direction.BACKWARDS,
        is_blocked=any(
            found.severity is Severity.BLOCKING and not is_rebuilt(found)
            for found in findings
        ),
        rebuilt=tuple(found for found in findings if is_rebuilt(found)),
        missing=tuple(scope for scope in needed if not may(actor, scope, plan.database)),
        verb=_verb(plan),
        vendor=vendor_name(plan.vendor),
        phases=_phases(plan),
        not_transactional=sum(not step.rolls_back for step in plan.steps),
        first_undetailed=next(iter(plan.steps[detailed_to:]), None),
    )


def _phases(plan: Plan) -> tuple[PhaseChoice, ...]:
    """Return choices if some steps belong after the deploy, or a phase is selected."""
    if plan.phase is None and all(step.phase.is_required for step in plan.steps):
        return ()
    return (
        PhaseChoice(phase=None, text="all steps"),
        PhaseChoice(phase=Phase.BEFORE_DEPLOY, text="before the deploy"),
        PhaseChoice(phase=Phase.AFTER_DEPLOY, text="after the deploy"),
    )


def _operation_views(
    step: Step, step_answer: PlanStepAnswer, tables: list[TableAnswer]
) -> tuple[OperationView, ...]:
    return tuple(
        OperationView(operation=operation, forecast=tuple(operation_lines(answer, tables)))
        for operation, answer in zip(step.operations, step_answer.operations, strict=True)
    )


def _worst(step: Step, findings: list[Finding]) -> Severity | None:
    return next((found.severity for found in findings if found.step == step.label), None)


def _verb(plan: Plan) -> str:
    count = len(plan.steps)
    steps = f"{count} migration{'' if count == 1 else 's'}"
    if plan.direction is Direction.BACKWARDS:
        return f"Reverse {steps} on {plan.database}"
    return f"Apply {steps} to {plan.database}"
