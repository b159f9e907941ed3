"""Findings about what stays when a step without a transaction stops midway."""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.planning.changes.values import Reading
from migration_route.planning.plan import Finding
from migration_route.vocabulary import Severity


def findings(reading: Reading) -> Iterator[Finding]:
    """Name what makes a step without a transaction hard to repeat."""
    for step in reading.plan.steps:
        if step.atomic:
            continue
        deeds = [deed for deed in reading.deeds if deed.step == step.label]
        concurrent = [deed.operation for deed in deeds if deed.is_concurrent]
        if len(deeds) > 1 and concurrent:
            yield Finding(
                code="concurrent_with_others",
                severity=Severity.WARNING,
                step=step.label,
                operation=concurrent[0],
                message=f"{step.label} works on an index CONCURRENTLY beside other "
                "operations, so when that fails, what came before it stays and cannot "
                "simply be repeated.",
                hint="Make a migration of its own for each concurrent index.",
            )
        elif len(deeds) > 1:
            yield Finding(
                code="several_operations",
                severity=Severity.WARNING,
                step=step.label,
                message=f"{step.label} has {len(deeds)} operations outside of a "
                "transaction, so when one fails, those before it stay and cannot simply "
                "be repeated.",
                hint="Make a migration of its own for each of them.",
            )
        for deed in deeds:
            if deed.is_unprotected:
                yield Finding(
                    code="unprotected_python",
                    severity=Severity.INFO,
                    step=deed.step,
                    operation=deed.operation,
                    message="This Python runs outside of a transaction, so what it has "
                    "written stays when it fails, and runs again when the step does.",
                    hint="Let it pass over what is done already, or give RunPython "
                    "atomic=True.",
                )
