"""Findings about data and schema in one transaction."""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.planning.changes.values import Deed, Reading
from migration_route.planning.plan import Finding, Step
from migration_route.vocabulary import Severity


def findings(reading: Reading) -> Iterator[Finding]:
    """Name the steps that change rows and the schema of tables that are there."""
    if not reading.plan.transactional_ddl:
        return
    for step in reading.plan.steps:
        deeds = [deed for deed in reading.deeds if deed.step == step.label]
        writes = [deed.operation for deed in deeds if deed.writes_rows]
        alters = [deed.operation for deed in deeds if _alters(deed, step)]
        if step.atomic and writes and alters:
            yield Finding(
                code="mixes_data_and_schema",
                severity=Severity.WARNING,
                step=step.label,
                operation=writes[0],
                message=f"{step.label} changes rows and schema in one transaction, so "
                f"{_what_happens(writes, alters, reading.plan.vendor)}.",
                hint="Make a migration of its own for the data.",
            )


def _alters(deed: Deed, step: Step) -> bool:
    """Tell whether an operation changes the schema of a table that is there; one whose
    SQL is known to be empty does not."""
    if not deed.tables:
        return False
    known = step.operations[deed.operation : deed.operation + 1]
    return not known or known[0].sql != ()


def _what_happens(writes: list[int], alters: list[int], vendor: str) -> str:
    if vendor == "postgresql" and min(writes) < max(alters):
        return (
            "ALTER TABLE may be refused for pending trigger events, and the locks of both "
            "are held until the end"
        )
    return "the lock of the schema change is held for as long as the data takes"
