"""Findings about the steps of a plan as such: their direction, what a failure leaves half
applied, and the sides of a deploy on which they belong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from migration_route.core.enums import Direction, Mode, Phase, Severity
from migration_route.planning.findings.kinds import make_finding
from migration_route.planning.phases import Deferrals, deferred
from migration_route.planning.plan import Deferred, Finding, Plan, Step


def direction_findings(plan: Plan) -> Iterator[Finding]:
    """Report that a plan goes backwards, and which steps are irreversible."""
    if plan.mode is Mode.FAKE:
        return
    if plan.direction is Direction.BACKWARDS:
        yield make_finding("backwards")
    for step in plan.steps:
        if not step.reversible:
            is_back = step.direction is Direction.BACKWARDS
            yield make_finding("irreversible" if is_back else "one_way", step=step.label)


def atomicity_findings(plan: Plan) -> Iterator[Finding]:
    """Report the steps that can be left half applied."""
    if plan.steps and not plan.transactional_ddl:
        yield make_finding("ddl_commits")
        return
    for step in plan.steps:
        if not step.rolls_back:
            yield make_finding("not_atomic", step=step.label)


def phase_findings(plan: Plan, deferrals: Deferrals) -> Iterator[Finding]:
    """Report steps that are safe on neither side of a deploy, ambiguous, too early or
    overdue."""
    if plan.mode is not Mode.FAKE:
        for step in plan.steps:
            yield from _doubts(step, plan.phase)
    yield from _ambiguous(plan)
    if first := pending_before_deploy(plan):
        yield make_finding("before_deploy_pending", steps=", ".join(first))
    yield from _overdue(plan, deferrals)


def _doubts(step: Step, asked: Phase | None) -> Iterator[Finding]:
    label, phase = step.label, step.phase
    if phase.not_understood:
        yield make_finding("phase_not_understood", step=label, value=phase.not_understood)
    if phase.is_mixed:
        yield make_finding("mixed_phases", step=label, is_mild=asked is None)
    elif phase.unsafe:
        yield make_finding(
            "no_safe_phase", step=label, is_mild=asked is None, why=phase.unsafe
        )


def _ambiguous(plan: Plan) -> Iterator[Finding]:
    weights = {None: Severity.INFO, Phase.AFTER_DEPLOY: Severity.WARNING}
    both: tuple[Step | Deferred, ...] = (*plan.steps, *plan.deferred)
    for one in both:
        if one.phase.is_ambiguous:
            behind = one.phase.waits_for
            found = make_finding("phase_ambiguous", step=one.label, behind=behind)
            yield replace(found, severity=weights.get(plan.phase, found.severity))


def pending_before_deploy(plan: Plan) -> list[str]:
    """Return the steps before the deploy that must be applied before a plan of the phase
    after the deploy can be examined in detail: its steps may depend on them."""
    if plan.phase is not Phase.AFTER_DEPLOY:
        return []
    return [
        left.label for left in plan.deferred if left.phase.carried_out is not plan.phase
    ]


def _overdue(plan: Plan, deferrals: Deferrals) -> Iterator[Finding]:
    dated = [
        deferred(step, "", deferrals.get(step.label), build=plan.build)
        for step in plan.steps
    ]
    for left in (*plan.deferred, *dated):
        if left.overdue:
            yield make_finding("overdue", step=left.label, since=left.since, build=left.by)
