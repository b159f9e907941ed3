"""Findings about data that a step removes or restricts, and about the running release.

They cover dropped tables, columns and rows, rows that violate a new constraint, columns
that the running release does not fill or reads differently, and names that it no longer
finds.
"""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.core.enums import Severity
from migration_route.planning.changes.types import ChangeKind, PlanChanges, SchemaChange
from migration_route.planning.plan import Finding


def constraint_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report new constraints, which existing rows and writes of the running release must
    satisfy."""
    for change in reading.changes:
        if change.is_new_object:
            continue
        match change.kind:
            case ChangeKind.NULL_FORBIDDEN:
                yield Finding(
                    code="forbids_null",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"The column {change.column} becomes NOT NULL: "
                    f"{_of_null(change)} a running release that writes NULL fails.",
                    hint="First deploy a release that always writes a value, then replace "
                    "NULL in a separate migration, then add NOT NULL.",
                )
            case ChangeKind.UNIQUE_ADDED:
                yield Finding(
                    code="adds_unique",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"{_named(change)} becomes unique{_where(change)}: duplicates "
                    "make the step fail, and the running release can write more of them.",
                    hint="Find duplicates first, and resolve them in a separate migration.",
                )
            case ChangeKind.CHECK_ADDED:
                yield Finding(
                    code="adds_check",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"The new constraint {change.name} applies to every row of "
                    f"{change.table}: a row that violates it makes the step fail, and the "
                    "running release can write more such rows.",
                    hint="On PostgreSQL, use AddConstraintNotValid, correct the rows, and "
                    "add ValidateConstraint in a later migration.",
                )
            case ChangeKind.REFERENCE_ADDED:
                yield Finding(
                    code="adds_reference",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"Each value of {change.column} must now exist in another "
                    "table: a row whose value does not exist there makes the step fail.",
                    hint="Find values without a match first, or add the constraint NOT "
                    "VALID and validate it later.",
                )


def _of_null(change: SchemaChange) -> str:
    if change.is_filled:
        return "every row without a value is updated, and"
    return "a row without a value makes the step fail, and"


def _where(change: SchemaChange) -> str:
    return f" {change.detail}" if change.detail else ""


def _named(change: SchemaChange) -> str:
    return change.column if change.columns else f"An expression over {change.table}"


def loss_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report what is dropped, and columns whose values no longer fit."""
    gone = {
        (change.step, change.table)
        for change in reading.changes
        if change.kind is ChangeKind.TABLE_DROPPED
    }
    for change in reading.changes:
        if change.is_new_object:
            continue
        match change.kind:
            case ChangeKind.TABLE_DROPPED:
                yield Finding(
                    code="drops_table",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"The table {change.table} is dropped with its rows, and a "
                    "running release that still uses it fails.",
                    hint="Remove the model from the code first, and drop the table in a "
                    "later release. Back up the rows that may be needed.",
                )
            case ChangeKind.COLUMN_DROPPED if (change.step, change.table) not in gone:
                yield Finding(
                    code="drops_column",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"The column {change.column} is dropped with its data, and a "
                    "running release that still selects it fails.",
                    hint="Remove the field from the state in one release "
                    "(SeparateDatabaseAndState), and drop the column in the next.",
                )
            case ChangeKind.ROWS_DROPPED:
                yield Finding(
                    code="drops_rows",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"SQL in this step deletes rows of {change.table}, and "
                    "reversing the step does not restore them.",
                    hint="Back up the rows, and delete large numbers of rows in batches.",
                )
            case ChangeKind.COLUMN_NARROWED:
                yield Finding(
                    code="narrows_column",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"The column {change.column} is narrowed {change.detail}: "
                    "values that do not fit make the step fail or are truncated, and a "
                    "running release can still write them.",
                    hint="Find values that do not fit, and first deploy a release that "
                    "writes none.",
                )


def column_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report columns that the running release cannot fill, or reads with another type."""
    for change in reading.changes:
        if _fails_old_inserts(change):
            yield Finding(
                code="adds_required_column",
                severity=Severity.WARNING,
                step=change.step,
                operation=change.operation,
                message=f"The column {change.column} is NOT NULL and has no default in the "
                "database, so every INSERT of the running release fails.",
                hint="Set db_default on the field, because Django does not keep a default "
                "in the database. Or allow NULL until the new release runs everywhere.",
            )
        elif change.kind is ChangeKind.COLUMN_RETYPED and not change.is_new_object:
            yield Finding(
                code="changes_type",
                severity=Severity.WARNING,
                step=change.step,
                operation=change.operation,
                message=f"The type of {change.column} changes {change.detail}: values "
                "that cannot be converted make the step fail, and the running release "
                "reads and writes the old type.",
                hint="Add a new column, fill it, switch the code to it, and drop the old "
                "column in a later release.",
            )


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
        if change.is_new_object:
            continue
        if change.kind is ChangeKind.TABLE_RENAMED:
            yield Finding(
                code="renames_table",
                severity=Severity.WARNING,
                step=change.step,
                operation=change.operation,
                message=f"The table {change.table} is renamed to {change.name}, so every "
                "query of the running release on it fails.",
                hint="Rename only the model, and keep its db_table.",
            )
        elif change.kind is ChangeKind.COLUMN_RENAMED:
            yield Finding(
                code="renames_column",
                severity=Severity.WARNING,
                step=change.step,
                operation=change.operation,
                message=f"The column {change.column} is renamed to {change.name}, so every "
                "query of the running release that uses it fails.",
                hint="Rename only the field and keep its db_column, or add a new column "
                "and drop the old one in a later release.",
            )
