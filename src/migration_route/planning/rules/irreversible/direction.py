"""Findings about going back: what is lost, and what cannot be undone."""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.planning.plan import Finding, Plan
from migration_route.vocabulary import Direction, Mode, Severity


def findings(plan: Plan) -> Iterator[Finding]:
    """Say that a plan goes backwards, and which steps cannot be undone."""
    if plan.direction is Direction.BACKWARDS and plan.mode is not Mode.FAKE:
        yield Finding(
            code="backwards",
            severity=Severity.WARNING,
            message="This plan goes backwards: what its steps once added is removed, "
            "with the data in it.",
            hint="It needs the right 'reverse'.",
        )
    for step in plan.steps:
        if step.reversible or plan.mode is Mode.FAKE:
            continue
        if step.direction is Direction.BACKWARDS:
            yield Finding(
                code="irreversible",
                severity=Severity.BLOCKING,
                step=step.label,
                message=f"{step.label} cannot be undone: an operation has no way back.",
                hint="Go forwards with a new migration instead.",
            )
        else:
            yield Finding(
                code="one_way",
                severity=Severity.INFO,
                step=step.label,
                message=f"Once {step.label} is applied, there is no way back through it.",
                hint="Give RunPython a reverse_code, or RunSQL a reverse_sql.",
            )
