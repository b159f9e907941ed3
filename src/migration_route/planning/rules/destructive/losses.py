"""Findings about tables, columns and rows that a step takes away."""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.planning.changes.values import ChangeKind, Reading
from migration_route.planning.plan import Finding
from migration_route.vocabulary import Severity


def findings(reading: Reading) -> Iterator[Finding]:
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
