"""Findings about steps that the database cannot undo as a whole."""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.planning.plan import Finding, Plan
from migration_route.vocabulary import Severity


def findings(plan: Plan) -> Iterator[Finding]:
    """Name the steps that may stop midway."""
    if plan.steps and not plan.transactional_ddl:
        yield Finding(
            code="ddl_commits",
            severity=Severity.WARNING,
            message="This database commits every change of the schema at once: a step "
            "that fails or is cancelled midway stays half done.",
            hint="Prefer migrations with one operation each.",
        )
        return
    for step in plan.steps:
        if not step.rolls_back:
            yield Finding(
                code="not_atomic",
                severity=Severity.WARNING,
                step=step.label,
                message=f"{step.label} runs outside of a transaction: if it fails or is "
                "cancelled midway, it stays half done.",
                hint="Keep one operation in a migration with atomic = False.",
            )
