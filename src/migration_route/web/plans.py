"""What does the page say about a plan?

What does the first page say about a database?

What does a page say about the moment: is it a good one?

What does a page say about when a run may begin?
"""

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
from migration_route.policy.health_gate import HealthDecision, Hold
from migration_route.policy.schedule import (
    HORIZON,
    NeverOpens,
    OpensLater,
    Schedule,
    instant,
    is_shown,
)
from migration_route.presentation.schemas import PlanStepAnswer, TableAnswer
from migration_route.presentation.serializers import plan_answer
from migration_route.presentation.text.plans import estimate_line, operation_lines
from migration_route.web.formatting import moment, vendor_name, words

_WAITS_FOR: dict[str, str] = {
    WaitingReason.TIME: "it was asked for at a later time",
    WaitingReason.WINDOW: "no window is open",
    WaitingReason.FREEZE: "nothing begins in a freeze",
    WaitingReason.CARRIER: "no worker has taken it yet",
    WaitingReason.HEALTH: "the moment is not good",
    WaitingReason.HELD: "somebody holds it",
    WaitingReason.BLOCKED: "others are using what it has to change",
    WaitingReason.LOCK: "something else is migrating this database",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseView:
    """A database as the first page shows it."""

    status: DatabaseStatus
    vendor: str
    waits_for: str  # what the run waits for that owns it, in words; "" for nothing
    until: datetime | None


def database_view(status: DatabaseStatus) -> DatabaseView:
    """Return a database as the first page shows it."""
    return DatabaseView(
        status=status,
        vendor=vendor_name(status.vendor),
        waits_for=_WAITS_FOR.get(status.active_waits_for, words(status.active_waits_for)),
        until=moment(status.active_until),
    )


_TONES = {
    SignalState.NORMAL: "good",
    SignalState.STOP: "bad",
    SignalState.UNKNOWN: "warning",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalView:
    """A signal as a page shows it."""

    name: str
    state: str
    tone: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """How the database is, for whoever wants to apply a plan now."""

    is_good: bool
    worth_knowing: tuple[SignalView, ...]  # those that stop, and those that are unknown
    normal: tuple[SignalView, ...]


def moment_view(moment: HealthDecision) -> HealthView:
    """Return a moment as a page shows it."""
    views = signal_views(signal.to_dict() for signal in moment.signals)
    return HealthView(
        is_good=not isinstance(moment, Hold),
        worth_knowing=tuple(one for one in views if one.state != SignalState.NORMAL),
        normal=tuple(one for one in views if one.state == SignalState.NORMAL),
    )


def signal_views(signals: Iterable[Mapping[str, Any]]) -> tuple[SignalView, ...]:
    """Return signals, as they are stored, as a page shows them."""
    return tuple(
        SignalView(
            name=words(signal["name"]),
            state=signal["state"],
            tone=_TONES[SignalState(signal["state"])],
            reason=signal["reason"],
        )
        for signal in signals
    )


_AS_TYPED = "%Y-%m-%dT%H:%M"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningView:
    """When a run might begin, and what the field for it may take."""

    at: datetime | None  # None: now, or never
    is_never: bool
    why: str  # "" where it may begin now
    zone: str  # in which a time is typed and shown
    least: str  # as a browser's field takes it
    most: str
    typed: str  # what stood in the field, on a page that is shown again


def opening_view(found: Schedule, *, typed: str = "") -> OpeningView:
    """Return an opening as the page of a plan shows it."""
    now = clock.current().astimezone(timezone.get_current_timezone())
    return OpeningView(
        at=found.at if isinstance(found, OpensLater) else None,
        is_never=isinstance(found, NeverOpens),
        why=found.why if isinstance(found, OpensLater | NeverOpens) else "",
        zone=timezone.get_current_timezone_name(),
        least=now.strftime(_AS_TYPED),
        most=(now + HORIZON).strftime(_AS_TYPED),
        typed=typed,
    )


def begin_at(words: QueryDict) -> datetime | None:
    """Read when a run is to begin, by the clock of this site; None for at once. Raises
    `InvalidRequest`."""
    text = words.get("at", "").strip()
    if not text:
        return None
    try:
        wall = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"{text[:50]!r} is no time to begin at.") from error
    if wall.tzinfo is not None:
        return wall
    zone = timezone.get_current_timezone()
    try:
        is_told = is_shown(wall, zone)
    except OverflowError as error:
        raise InvalidRequest(f"{text[:50]!r} is out of range.") from error
    if not is_told:
        raise InvalidRequest(
            f"{text[:50]} is left out when the clock is put forward that day in "
            f"{timezone.get_current_timezone_name()}.",
            hint="Take an earlier or a later time.",
        )
    return instant(wall, zone)


OPENING_SENTENCES = {
    WaitingReason.TIME: (
        "Waiting: it was asked for at a later time.",
        "It begins by itself, in a process of its own. Nothing of it has begun.",
    ),
    WaitingReason.WINDOW: (
        "Waiting: no window is open.",
        "It goes on by itself when one opens.",
    ),
    WaitingReason.FREEZE: (
        "Waiting: nothing begins in a freeze.",
        "It begins by itself when the freeze has ended.",
    ),
    WaitingReason.CARRIER: (
        "Waiting for a worker: no process has taken it yet.",
        "It begins when a worker comes for it: 'manage.py migration_route work', or that "
        "of the task queue. Nothing of it has begun.",
    ),
}
"""What is so, and what comes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleHoldView:
    """What keeps a run from beginning, or from its next step."""

    opens: datetime | None
    why: str


def shut_view(record: RunRecord) -> ScheduleHoldView | None:
    """Return it; None where it is not a time, a window or a freeze."""
    is_window = record.waiting_reason == WaitingReason.WINDOW
    if not (record.waits_to_begin or is_window):
        return None
    why = record.waiting_facts.get("why", "")
    return ScheduleHoldView(opens=moment(record.waiting_until), why=why)


_ORDER = (Severity.BLOCKING, Severity.WARNING, Severity.INFO)


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationView:
    """An operation with what is foretold of its statements, in lines."""

    operation: Operation
    foretold: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """A step with what was found about it, and what is foretold of it."""

    step: Step
    worst: Severity | None
    is_told: bool  # its SQL, as far as it can be known
    operations: tuple[OperationView, ...]
    took: str  # how long it took before; "" where nothing is on record


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseChoice:
    """A link to the plan of one phase, or to that of everything."""

    phase: Phase | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    """A plan as the page shows it."""

    plan: Plan
    steps: tuple[StepView, ...]
    findings: tuple[Finding, ...]  # the gravest first
    is_backwards: bool
    is_blocked: bool  # the route would refuse it
    rebuilt: tuple[Finding, ...]  # invalid indexes that it makes anew, if that is wanted
    missing: tuple[Scope, ...]  # the rights that the reader lacks to carry it out
    verb: str  # what the button says that it will do
    vendor: str
    phases: tuple[PhaseChoice, ...]  # none where there is nothing to choose
    undone: int  # steps that stay half done when they fail
    first_untold: Step | None  # where it is told further on

    @property
    def grave(self) -> tuple[Finding, ...]:
        """Return the findings that should not be overlooked."""
        return tuple(one for one in self.findings if one.severity is not Severity.INFO)

    @property
    def minor(self) -> tuple[Finding, ...]:
        """Return those that are for information."""
        return tuple(one for one in self.findings if one.severity is Severity.INFO)

    @property
    def is_offered(self) -> bool:
        """Tell whether the page has a button for it."""
        return bool(self.steps) and not self.missing and not self.is_blocked


def plan_view(plan: Plan, actor: Actor, details: Details) -> PlanView:
    """Return a plan as the page shows it to this reader."""
    needed = scopes_for(direction=plan.direction, mode=plan.mode)
    told_to = len(plan.steps) if plan.details_next is None else plan.details_next
    told = plan_answer(plan)
    findings = sorted(plan.findings, key=lambda found: _ORDER.index(found.severity))
    return PlanView(
        plan=plan,
        steps=tuple(
            StepView(
                step=step,
                worst=_worst(step, findings),
                took=estimate_line(answer.estimate),
                is_told=details.after <= position < told_to,
                operations=_operation_views(step, answer, told.tables),
            )
            for position, (step, answer) in enumerate(
                zip(plan.steps, told.steps, strict=True)
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
        undone=sum(not step.rolls_back for step in plan.steps),
        first_untold=next(iter(plan.steps[told_to:]), None),
    )


def _phases(plan: Plan) -> tuple[PhaseChoice, ...]:
    """Offer the phases where some of the steps come after the deploy."""
    if plan.phase is None and all(step.phase.is_required for step in plan.steps):
        return ()
    return (
        PhaseChoice(phase=None, text="everything"),
        PhaseChoice(phase=Phase.BEFORE_DEPLOY, text="before the deploy"),
        PhaseChoice(phase=Phase.AFTER_DEPLOY, text="after the deploy"),
    )


def _operation_views(
    step: Step, told: PlanStepAnswer, tables: list[TableAnswer]
) -> tuple[OperationView, ...]:
    return tuple(
        OperationView(operation=operation, foretold=tuple(operation_lines(answer, tables)))
        for operation, answer in zip(step.operations, told.operations, strict=True)
    )


def _worst(step: Step, findings: list[Finding]) -> Severity | None:
    return next((found.severity for found in findings if found.step == step.label), None)


def _verb(plan: Plan) -> str:
    count = len(plan.steps)
    steps = f"{count} migration{'' if count == 1 else 's'}"
    if plan.direction is Direction.BACKWARDS:
        return f"Reverse {steps} on {plan.database}"
    return f"Apply {steps} to {plan.database}"
