"""Which findings are about the running release, which meets the new schema?

Which findings are about rows that may stand against a step?

Findings about rows that may stand against a new constraint.

Which findings are about data and things that a step takes away?

Findings about tables, columns and rows that a step takes away.

Findings about columns that the running release does not fill, or reads otherwise.

Findings about names that the running release looks for in vain.
"""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.core.enums import Severity
from migration_route.planning.changes.types import ChangeKind, PlanChanges, SchemaChange
from migration_route.planning.plan import Finding


def constraints_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Name what the rows that are there, and the next ones of the running release, must
    keep to."""
    for change in reading.changes:
        if change.is_news:
            continue
        match change.kind:
            case ChangeKind.NULL_FORBIDDEN:
                yield Finding(
                    code="forbids_null",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"The column {change.column} no longer takes NULL, so "
                    f"{_of_null(change)} a running release that writes NULL fails.",
                    hint="Let a release that always writes a value go first, fill what is "
                    "NULL in a migration of its own, then forbid it.",
                )
            case ChangeKind.UNIQUE_ADDED:
                yield Finding(
                    code="adds_unique",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"{_named(change)} becomes unique{_where(change)}, so rows "
                    "that share a value "
                    "make the step fail, and the running release may write more of them.",
                    hint="Look for duplicates first, and put them right in a migration of "
                    "its own.",
                )
            case ChangeKind.CHECK_ADDED:
                yield Finding(
                    code="adds_check",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"A new constraint {change.name} holds for every row of "
                    f"{change.table}, so a row that breaks it makes the step fail, and the "
                    "running release may write more of them.",
                    hint="On PostgreSQL use AddConstraintNotValid, put the rows right, and "
                    "add ValidateConstraint with a later migration.",
                )
            case ChangeKind.REFERENCE_ADDED:
                yield Finding(
                    code="adds_reference",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"The values of {change.column} must now be found in another "
                    "table, so a row whose value is not there makes the step fail.",
                    hint="Look for values without a counterpart first, or add the "
                    "constraint NOT VALID and validate it later.",
                )


def _of_null(change: SchemaChange) -> str:
    if change.is_filled:
        return "every row without a value is updated, and"
    return "a row without a value makes the step fail, and"


def _where(change: SchemaChange) -> str:
    return f" {change.detail}" if change.detail else ""


def _named(change: SchemaChange) -> str:
    return change.column if change.columns else f"An expression over {change.table}"


def losses_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Name what goes, and what its columns can no longer hold."""
    gone = {
        (change.step, change.table)
        for change in reading.changes
        if change.kind is ChangeKind.TABLE_DROPPED
    }
    for change in reading.changes:
        if change.is_news:
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
                    hint="Take the model out of the code first, and drop the table with a "
                    "later release; keep a copy of what may be needed.",
                )
            case ChangeKind.COLUMN_DROPPED if (change.step, change.table) not in gone:
                yield Finding(
                    code="drops_column",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"The column {change.column} is dropped with its data, and a "
                    "running release that still selects it fails.",
                    hint="Take the field out of the state with one release "
                    "(SeparateDatabaseAndState), and drop the column with the next.",
                )
            case ChangeKind.ROWS_DROPPED:
                yield Finding(
                    code="drops_rows",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"SQL of this step deletes rows of {change.table}, and no way "
                    "back brings them again.",
                    hint="Keep a copy of the rows, and delete many of them in batches.",
                )
            case ChangeKind.COLUMN_NARROWED:
                yield Finding(
                    code="narrows_column",
                    severity=Severity.WARNING,
                    step=change.step,
                    operation=change.operation,
                    message=f"The column {change.column} shrinks {change.detail}, so "
                    "values that do not fit make the step fail or are cut, and a running "
                    "release may still write them.",
                    hint="Look for values that do not fit, and let a release that writes "
                    "none go first.",
                )


def columns_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Name the columns whose meaning the running release does not know."""
    for change in reading.changes:
        if _fails_old_inserts(change):
            yield Finding(
                code="adds_required_column",
                severity=Severity.WARNING,
                step=change.step,
                operation=change.operation,
                message=f"The column {change.column} must have a value and the database "
                "has no default for it, so every INSERT of the running release fails.",
                hint="Give the field a db_default: Django takes a default out of the "
                "database again. Or let it be null until the new release is everywhere.",
            )
        elif change.kind is ChangeKind.COLUMN_RETYPED and not change.is_news:
            yield Finding(
                code="changes_type",
                severity=Severity.WARNING,
                step=change.step,
                operation=change.operation,
                message=f"The type of {change.column} changes {change.detail}, so values "
                "that cannot be converted make the step fail, and the running release "
                "reads and writes the old type.",
                hint="Add a new column, fill it, let the code move over, and drop the old "
                "one with a later release.",
            )


def _fails_old_inserts(change: SchemaChange) -> bool:
    """Tell whether code that does not know the column cannot insert a row any more: also
    where the same plan adds the column first, and fills it."""
    if change.in_new_table or not change.needs_value:
        return False
    if change.kind is ChangeKind.NULL_FORBIDDEN:
        return change.of_new_column
    return change.kind is ChangeKind.COLUMN_ADDED


def names_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Name tables and columns that get another name."""
    for change in reading.changes:
        if change.is_news:
            continue
        if change.kind is ChangeKind.TABLE_RENAMED:
            yield Finding(
                code="renames_table",
                severity=Severity.WARNING,
                step=change.step,
                operation=change.operation,
                message=f"The table {change.table} becomes {change.name}, so every query "
                "of the running release on it fails.",
                hint="Rename the model and keep its db_table.",
            )
        elif change.kind is ChangeKind.COLUMN_RENAMED:
            yield Finding(
                code="renames_column",
                severity=Severity.WARNING,
                step=change.step,
                operation=change.operation,
                message=f"The column {change.column} becomes {change.name}, so every query "
                "of the running release that names it fails.",
                hint="Rename the field and keep its db_column, or add a new column and "
                "drop the old one with a later release.",
            )
