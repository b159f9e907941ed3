"""What does the page say about a plan?"""

from __future__ import annotations

from dataclasses import dataclass

from migration_route.access.actor import Actor
from migration_route.access.permissions import may
from migration_route.deciding.policy import is_rebuilt, scopes_for
from migration_route.planning.plan import Details, Finding, Operation, Plan, Step
from migration_route.rendering.forecasts import estimate_line, operation_lines
from migration_route.reporting.plans import plan_answer
from migration_route.vocabulary import Direction, Phase, Scope, Severity
from migration_route.web.wording import vendor_name
from migration_route.wire import PlanStepAnswer, TableAnswer

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
