"""Findings about columns that the running release does not fill, or reads otherwise."""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.planning.changes.values import Change, ChangeKind, Reading
from migration_route.planning.plan import Finding
from migration_route.vocabulary import Severity


def findings(reading: Reading) -> Iterator[Finding]:
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


def _fails_old_inserts(change: Change) -> bool:
    """Tell whether code that does not know the column cannot insert a row any more: also
    where the same plan adds the column first, and fills it."""
    if change.in_new_table or not change.needs_value:
        return False
    if change.kind is ChangeKind.NULL_FORBIDDEN:
        return change.of_new_column
    return change.kind is ChangeKind.COLUMN_ADDED
