"""Findings about deploy phases: steps that are safe on neither side of a deploy, and steps
that are ambiguous, too early or overdue."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from migration_route.core.enums import Mode, Phase, Severity
from migration_route.planning.phases.split import Deferrals, deferred
from migration_route.planning.phases.types import Deferred
from migration_route.planning.plan import Finding, Plan, Step


def findings(plan: Plan, deferrals: Deferrals) -> Iterator[Finding]:
    """Yield findings about the phases of a plan's steps. In a plan without a phase they are
    information: such a plan runs in Django's order, whatever the phases are."""
    for step in plan.steps:
        if plan.mode is not Mode.FAKE:
            yield from _of_step(step, plan.phase)
    yield from _ambiguous(plan)
    yield from _too_early(plan)
    yield from _overdue(plan, deferrals)


def _of_step(step: Step, asked: Phase | None) -> Iterator[Finding]:
    phase = step.phase
    if phase.not_understood:
        yield Finding(
            code="phase_not_understood",
            severity=Severity.WARNING,
            step=step.label,
            message=f"{step.label} declares phase = {phase.not_understood}, which is not a "
            "phase, so its phase is computed instead.",
            hint="Use before_deploy, after_deploy or any.",
        )
    doubt = _doubt(step)
    if doubt is not None:
        yield doubt if asked else replace(doubt, severity=Severity.INFO)


def _doubt(step: Step) -> Finding | None:
    """Return the finding about a step that is safe on neither side."""
    if step.phase.is_mixed:
        return Finding(
            code="mixed_phases",
            severity=Severity.WARNING,
            step=step.label,
            message=f"{step.label} has operations for before the deploy and for after it. "
            "As a whole it runs before the deploy, and the running release may break.",
            hint="Split it into two migrations, or declare its phase.",
        )
    if step.phase.unsafe:
        return Finding(
            code="no_safe_phase",
            severity=Severity.WARNING,
            step=step.label,
            message=f"{step.label} is safe neither before nor after the deploy. "
            f"{step.phase.unsafe}",
            hint="Use two releases: add and fill first, remove later. Give a column that "
            "one release does not know a db_default or null=True.",
        )
    return None


def _ambiguous(plan: Plan) -> Iterator[Finding]:
    weights = {None: Severity.INFO, Phase.AFTER_DEPLOY: Severity.WARNING}
    both: tuple[Step | Deferred, ...] = (*plan.steps, *plan.deferred)
    for one in both:
        if one.phase.is_ambiguous:
            behind = one.phase.waits_for
            finding = Finding(
                code="phase_ambiguous",
                severity=Severity.BLOCKING,
                step=one.label,
                message=f"{one.label} belongs before the deploy, but depends on {behind}, "
                "which comes after it.",
                hint=f"If the release that {behind} was deferred for is running, apply it "
                f"first, with the target {behind}. Otherwise declare the phase of one of "
                "them, or apply everything without a phase.",
            )
            yield replace(finding, severity=weights.get(plan.phase, finding.severity))


def pending_before_deploy(plan: Plan) -> list[str]:
    """Return the steps before the deploy that must be applied before a plan of the phase
    after the deploy can be examined in detail: its steps may depend on them."""
    if plan.phase is not Phase.AFTER_DEPLOY:
        return []
    return [
        left.label for left in plan.deferred if left.phase.carried_out is not plan.phase
    ]


def _too_early(plan: Plan) -> Iterator[Finding]:
    if first := pending_before_deploy(plan):
        yield Finding(
            code="before_deploy_pending",
            severity=Severity.BLOCKING,
            message=f"Steps for before the deploy are still pending: {', '.join(first)}.",
            hint="Apply the phase before_deploy first.",
        )


def _overdue(plan: Plan, deferrals: Deferrals) -> Iterator[Finding]:
    dated = [
        deferred(step, "", deferrals.get(step.label), build=plan.build)
        for step in plan.steps
    ]
    for left in (*plan.deferred, *dated):
        if left.overdue:
            yield Finding(
                code="overdue",
                severity=Severity.WARNING,
                step=left.label,
                message=f"{left.label} was deferred at {left.since} until after the deploy "
                f"of build {left.by}, and another build is running now.",
                hint=f"Apply the phase after_deploy with the target {left.label}.",
            )
