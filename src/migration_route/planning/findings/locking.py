"""Findings about statements that block other sessions on a table while they scan or rewrite
it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from migration_route.core.enums import Severity
from migration_route.core.values import Blocked, Forecast, TableSize
from migration_route.planning.changes.types import PlanChanges
from migration_route.planning.plan import Finding
from migration_route.vendors.sql_statements import NAME, last_part

SMALL_ROWS = 10_000
SMALL_BYTES = 10_000_000
"""Up to this size a scan or a rewrite takes well under 0.1 s."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Sizes:
    """The sizes of the tables of a plan, by name."""

    def __init__(self, tables: tuple[TableSize, ...]) -> None:
        self._by_name = {found.table: found for found in tables}

    def severity(self, table: str) -> Severity:
        """Return the severity of blocking this table: information for a small one."""
        found = self._by_name.get(table)
        if found is None or found.rows is None or found.rows > SMALL_ROWS:
            return Severity.WARNING
        is_small = found.bytes is None or found.bytes <= SMALL_BYTES
        return Severity.INFO if is_small else Severity.WARNING

    def in_words(self, table: str) -> str:
        """Return " (1,200 rows, 3 MB)", or nothing where the size is not known."""
        found = self._by_name.get(table)
        if found is None:
            return ""
        parts = [] if found.rows is None else [f"{found.rows:,} rows"]
        parts += [] if found.bytes is None else [_size(found.bytes)]
        return f" ({', '.join(parts)})" if parts else ""


def _size(count: int) -> str:
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.0f} {_UNITS[unit]}"


_INDEX = re.compile(r"\s*create\s+(?:unique\s+)?index\b", re.IGNORECASE)
_NOT_NULL = re.compile(
    r"\s*alter\s+table\b.*\bset\s+not\s+null\b", re.IGNORECASE | re.DOTALL
)
_CONSTRAINT = re.compile(
    r"\s*alter\s+table\b.*\b(?:add\s+(?:constraint|unique|check|foreign\s+key|primary)|"
    r"references)\b",
    re.IGNORECASE | re.DOTALL,
)
_ALTERED = re.compile(
    rf"\s*alter\s+table\s+(?:if\s+exists\s+)?(?:only\s+)?({NAME})", re.IGNORECASE
)
_REFERENCE = re.compile(rf"\breferences\s+({NAME})", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A statement that locks one table in a way that blocks other sessions."""

    step: str
    operation: int
    sql: str
    forecast: Forecast
    table: str
    waits: str  # what is blocked: reads and writes, or writes


def findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report the statements that read or write a whole table under a lock."""
    sizes = Sizes(reading.plan.tables)
    reported: set[tuple[str, int, str, str]] = set()
    for work in _works(reading):
        finding = _finding(work, sizes)
        if finding is None:
            continue
        key = (work.step, work.operation, finding.code, work.table)
        if key not in reported:  # one operation may send several such statements
            reported.add(key)
            yield finding


def _works(reading: PlanChanges) -> Iterator[_Work]:
    for step in reading.plan.steps:
        for position, operation in enumerate(step.operations):
            pairs = zip(operation.sql or (), operation.forecasts or (), strict=False)
            for sql, forecast in pairs:
                for lock in forecast.locks:
                    waits = _who_waits(lock.blocks)
                    if waits and lock.table not in reading.new_tables:
                        yield _Work(
                            step=step.label,
                            operation=position,
                            sql=sql,
                            forecast=forecast,
                            table=lock.table,
                            waits=waits,
                        )


def _who_waits(blocks: frozenset[Blocked]) -> str:
    """Return what a lock blocks, where it blocks all reads or all writes; "" for others."""
    if Blocked.READS in blocks:
        return "reads and writes"
    return "writes" if Blocked.WRITES in blocks else ""


def _finding(work: _Work, sizes: Sizes) -> Finding | None:
    table, waits = work.table, work.waits
    size = sizes.in_words(table)
    if table in work.forecast.rewrites:
        return Finding(
            code="rewrites_table",
            severity=sizes.severity(table),
            step=work.step,
            operation=work.operation,
            message=f"Every row of {table}{size} is rewritten, which blocks {waits} until "
            "it is done.",
            hint="Add a new column, fill it in batches, and switch the code to it; or run "
            "the step at a quiet time.",
        )
    if table not in work.forecast.scans or _is_parent(work):
        return _of_parent(work, sizes)
    if _INDEX.match(work.sql):
        return Finding(
            code="index_blocks_writes",
            severity=sizes.severity(table),
            step=work.step,
            operation=work.operation,
            message=f"Building an index on {table}{size} blocks {waits} until it is done.",
            hint="On PostgreSQL, use AddIndexConcurrently in a separate migration with "
            "atomic = False.",
        )
    if _NOT_NULL.match(work.sql):
        return Finding(
            code="not_null_scans",
            severity=sizes.severity(table),
            step=work.step,
            operation=work.operation,
            message=f"SET NOT NULL scans all of {table}{size}, which blocks {waits} until "
            "it is done.",
            hint="On PostgreSQL, add a check constraint IS NOT NULL as NOT VALID, validate "
            "it in a later migration, and then set NOT NULL, which skips the scan.",
        )
    if _CONSTRAINT.match(work.sql):
        return Finding(
            code="validates_under_lock",
            severity=sizes.severity(table),
            step=work.step,
            operation=work.operation,
            message=f"Checking a new constraint scans all of {table}{size}, which blocks "
            f"{waits} until it is done.",
            hint="On PostgreSQL, add the constraint NOT VALID (AddConstraintNotValid), and "
            "validate it in a later migration (ValidateConstraint).",
        )
    return Finding(
        code="scans_table",
        severity=sizes.severity(table),
        step=work.step,
        operation=work.operation,
        message=f"The statement scans all of {table}{size}, which blocks {waits} until it "
        "is done.",
        hint="Run the step at a quiet time, or read the table without locking it.",
    )


def _is_parent(work: _Work) -> bool:
    """Return whether a table is only the one that a new foreign key references. It may be
    read as well, but the referencing table is the one that takes long."""
    altered, referred = _ALTERED.match(work.sql), _REFERENCE.search(work.sql)
    if not altered or not referred:
        return False
    name = last_part(referred[1])
    return name == work.table.rpartition(".")[2] and name != last_part(altered[1])


def _of_parent(work: _Work, sizes: Sizes) -> Finding | None:
    """Return a finding about the table that a new foreign key references while the other
    one is scanned; None where the plan itself creates the other one."""
    reads = [table for table in work.forecast.scans if table != work.table]
    if not reads or not _REFERENCE.search(work.sql):
        return None
    return Finding(
        code="locks_parent",
        severity=sizes.severity(reads[0]),
        step=work.step,
        operation=work.operation,
        message=f"Checking a foreign key to {work.table} scans all of {reads[0]}"
        f"{sizes.in_words(reads[0])}, which also blocks {work.waits} on {work.table} until "
        "it is done.",
        hint="Add the constraint NOT VALID, and validate it in a later migration.",
    )
