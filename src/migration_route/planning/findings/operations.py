"""Findings about what the operations of a plan do to data, and to the running release.

They cover dropped tables, columns and rows, rows that violate a new constraint, columns
that the running release does not fill or reads differently, names that it no longer finds,
data and schema changes in one transaction, what makes a step hard to repeat, and functions
that ignore the database alias or import models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from migration_route.planning.changes.types import (
    ChangeKind,
    OperationEffect,
    PlanChanges,
    SchemaChange,
)
from migration_route.planning.findings.kinds import make_finding
from migration_route.planning.plan import Finding, Step

_LOSSES = {
    ChangeKind.TABLE_DROPPED: "drops_table",
    ChangeKind.COLUMN_DROPPED: "drops_column",
    ChangeKind.ROWS_DROPPED: "drops_rows",
    ChangeKind.COLUMN_NARROWED: "narrows_column",
}
_RENAMES = {
    ChangeKind.TABLE_RENAMED: "renames_table",
    ChangeKind.COLUMN_RENAMED: "renames_column",
}
_CONSTRAINTS = {
    ChangeKind.NULL_FORBIDDEN: "forbids_null",
    ChangeKind.UNIQUE_ADDED: "adds_unique",
    ChangeKind.CHECK_ADDED: "adds_check",
    ChangeKind.REFERENCE_ADDED: "adds_reference",
}


def loss_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report what is dropped, and columns whose values no longer fit."""
    gone = {
        (change.step, change.table)
        for change in reading.changes
        if change.kind is ChangeKind.TABLE_DROPPED
    }
    for change in reading.changes:
        is_of_gone_table = (change.step, change.table) in gone
        if change.kind is not ChangeKind.COLUMN_DROPPED or not is_of_gone_table:
            yield from _by_kind(change, _LOSSES)


def column_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report columns that the running release cannot fill, or reads with another type."""
    for change in reading.changes:
        if _fails_old_inserts(change):
            yield _of_change("adds_required_column", change)
        else:
            yield from _by_kind(change, {ChangeKind.COLUMN_RETYPED: "changes_type"})


def _fails_old_inserts(change: SchemaChange) -> bool:
    """Return whether code that does not know the column can no longer insert a row: also
    where the same plan first adds the column and fills it."""
    if change.in_new_table or not change.needs_value:
        return False
    if change.kind is ChangeKind.NULL_FORBIDDEN:
        return change.of_new_column
    return change.kind is ChangeKind.COLUMN_ADDED


def rename_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report renamed tables and columns."""
    for change in reading.changes:
        yield from _by_kind(change, _RENAMES)


def constraint_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report new constraints, which existing rows and writes of the running release must
    satisfy."""
    for change in reading.changes:
        yield from _by_kind(change, _CONSTRAINTS)


def _by_kind(change: SchemaChange, codes: Mapping[ChangeKind, str]) -> Iterator[Finding]:
    """Yield the finding of a change to what existed before the plan."""
    if change.kind in codes and not change.is_new_object:
        yield _of_change(codes[change.kind], change)


def _of_change(code: str, change: SchemaChange) -> Finding:
    nulls = "a row without a value makes the step fail, and"
    if change.is_filled:
        nulls = "every row without a value is updated, and"
    return make_finding(
        code,
        step=change.step,
        operation=change.operation,
        table=change.table,
        column=change.column,
        name=change.name,
        detail=change.detail,
        nulls=nulls,
        subject=change.column if change.columns else f"An expression over {change.table}",
        where=f" {change.detail}" if change.detail else "",
    )


def mixed_change_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report steps that change both rows and the schema of existing tables."""
    if not reading.plan.transactional_ddl:
        return
    for step in reading.plan.steps:
        deeds = _deeds_of(step, reading)
        writes = [deed.operation for deed in deeds if deed.writes_rows]
        alters = [deed.operation for deed in deeds if _alters(deed, step)]
        if step.atomic and writes and alters:
            yield make_finding(
                "mixes_data_and_schema",
                step=step.label,
                operation=writes[0],
                effect=_effect_of_mixing(writes, alters, reading.plan.vendor),
            )


def _deeds_of(step: Step, reading: PlanChanges) -> list[OperationEffect]:
    return [deed for deed in reading.deeds if deed.step == step.label]


def _alters(deed: OperationEffect, step: Step) -> bool:
    """Return whether an operation changes the schema of an existing table; an operation
    whose SQL is known to be empty does not."""
    if not deed.tables:
        return False
    known = step.operations[deed.operation : deed.operation + 1]
    return not known or known[0].sql != ()


def _effect_of_mixing(writes: list[int], alters: list[int], vendor: str) -> str:
    if vendor == "postgresql" and min(writes) < max(alters):
        return (
            "PostgreSQL can reject ALTER TABLE because of pending trigger events, and the "
            "locks of both changes are held until the transaction ends"
        )
    return "the lock of the schema change is held until the data change is done"


def repeatability_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report what makes a step without a transaction hard to repeat."""
    for step in reading.plan.steps:
        if step.atomic:
            continue
        label, deeds = step.label, _deeds_of(step, reading)
        concurrent = [deed.operation for deed in deeds if deed.is_concurrent]
        if len(deeds) > 1 and concurrent:
            yield make_finding(
                "concurrent_with_others", step=label, operation=concurrent[0]
            )
        elif len(deeds) > 1:
            yield make_finding("several_operations", step=label, count=len(deeds))
        for deed in deeds:
            if deed.is_unprotected:
                yield make_finding(
                    "unprotected_python", step=label, operation=deed.operation
                )


_DEFAULT = "default"


def python_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report functions that use the default database, or models from the current code."""
    elsewhere = reading.plan.database != _DEFAULT
    for deed in reading.deeds:
        code = deed.python
        if code is None:
            continue
        # With a single database, the default is always the right one.
        if code.forgets and (elsewhere or reading.has_several_databases):
            yield make_finding(
                "forgets_alias",
                step=deed.step,
                operation=deed.operation,
                is_mild=not elsewhere,
                function=code.name,
                uses=", ".join(code.forgets),
            )
        if code.imports:
            yield make_finding(
                "imports_models",
                step=deed.step,
                operation=deed.operation,
                function=code.name,
                uses=", ".join(code.imports),
            )
