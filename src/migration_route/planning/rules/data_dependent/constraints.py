"""Findings about rows that may stand against a new constraint."""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.planning.changes.values import Change, ChangeKind, Reading
from migration_route.planning.plan import Finding
from migration_route.vocabulary import Severity


def findings(reading: Reading) -> Iterator[Finding]:
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


def _of_null(change: Change) -> str:
    if change.is_filled:
        return "every row without a value is updated, and"
    return "a row without a value makes the step fail, and"


def _where(change: Change) -> str:
    return f" {change.detail}" if change.detail else ""


def _named(change: Change) -> str:
    return change.column if change.columns else f"An expression over {change.table}"
