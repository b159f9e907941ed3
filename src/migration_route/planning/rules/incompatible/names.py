"""Findings about names that the running release looks for in vain."""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.planning.changes.values import ChangeKind, Reading
from migration_route.planning.plan import Finding
from migration_route.vocabulary import Severity


def findings(reading: Reading) -> Iterator[Finding]:
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
