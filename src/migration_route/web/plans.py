"""Views of plans, health signals and schedules, as the pages show them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from migration_route.access.actors import Actor, may
from migration_route.core import clock
from migration_route.core.enums import Direction, Phase, Scope, Severity
from migration_route.core.values import HealthSignal, SignalState
from migration_route.planning.plan import Details, Finding, Plan, Step
from migration_route.policy.decision import is_rebuilt, scopes_for
from migration_route.policy.schedule import (
    HORIZON,
    HealthDecision,
    NeverOpens,
    OpensLater,
    Pause,
    Schedule,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """The health of a database before a plan is applied."""

    is_good: bool
    abnormal: tuple[HealthSignal, ...]  # those that stop a run, and unknown ones
    normal: tuple[HealthSignal, ...]


def health_view(decision: HealthDecision) -> HealthView:
    signals, normal = decision.signals, SignalState.NORMAL
    return HealthView(
        is_good=not isinstance(decision, Pause),
        abnormal=tuple(one for one in signals if one.state is not normal),
        normal=tuple(one for one in signals if one.state is normal),
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


_ORDER = (Severity.BLOCKING, Severity.WARNING, Severity.INFO)
_PHASES = (None, Phase.BEFORE_DEPLOY, Phase.AFTER_DEPLOY)


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingGroup:
    """The findings of one plan with the same code and severity."""

    code: str
    severity: Severity
    findings: tuple[Finding, ...]


def _grouped(findings: Iterable[Finding]) -> tuple[FindingGroup, ...]:
    groups: dict[tuple[str, Severity], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.code, finding.severity), []).append(finding)
    return tuple(
        FindingGroup(code=code, severity=severity, findings=tuple(found))
        for (code, severity), found in groups.items()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanView:
    plan: Plan
    findings: tuple[Finding, ...]  # the most severe first
    detailed: range  # the positions of the steps whose SQL is loaded, as far as known
    is_backwards: bool
    is_blocked: bool  # a run of it would be refused
    rebuilt: tuple[Finding, ...]  # invalid indexes that the run rebuilds on request
    missing: tuple[Scope, ...]  # the scopes that the user lacks to run it
    verb: str  # the label of the button
    phases: tuple[Phase | None, ...]  # empty if there is no choice
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
    def groups(self) -> tuple[FindingGroup, ...]:
        """The findings above severity `info` by code, the most severe first."""
        return _grouped(self.grave)

    @property
    def minor_groups(self) -> tuple[FindingGroup, ...]:
        """The findings of severity `info` by code."""
        return _grouped(self.minor)

    @property
    def is_offered(self) -> bool:
        """Whether the page shows the button."""
        return bool(self.plan.steps) and not self.missing and not self.is_blocked


def plan_view(plan: Plan, actor: Actor, details: Details) -> PlanView:
    needed = scopes_for(direction=plan.direction, mode=plan.mode)
    detailed_to = len(plan.steps) if plan.details_next is None else plan.details_next
    findings = sorted(plan.findings, key=lambda found: _ORDER.index(found.severity))
    has_phases = plan.phase or not all(step.phase.is_required for step in plan.steps)
    return PlanView(
        plan=plan,
        findings=tuple(findings),
        detailed=range(details.after, detailed_to),
        is_backwards=plan.direction is Direction.BACKWARDS,
        is_blocked=any(
            found.severity is Severity.BLOCKING and not is_rebuilt(found)
            for found in findings
        ),
        rebuilt=tuple(found for found in findings if is_rebuilt(found)),
        missing=tuple(scope for scope in needed if not may(actor, scope, plan.database)),
        verb=_verb(plan),
        phases=_PHASES if has_phases else (),
        not_transactional=sum(not step.rolls_back for step in plan.steps),
        first_undetailed=next(iter(plan.steps[detailed_to:]), None),
    )


def _verb(plan: Plan) -> str:
    count = len(plan.steps)
    steps = f"{count} migration{'' if count == 1 else 's'}"
    if plan.direction is Direction.BACKWARDS:
        return f"Reverse {steps} on {plan.database}"
    return f"Apply {steps} to {plan.database}"
