"""Findings about statements that block other sessions on a table while they scan or rewrite
it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from migration_route.core.values import Blocked, Forecast, TableSize
from migration_route.planning.changes.types import PlanChanges
from migration_route.planning.findings.kinds import make_finding
from migration_route.planning.plan import Finding
from migration_route.vendors.sql_statements import NAME, last_part

SMALL_ROWS = 10_000
SMALL_BYTES = 10_000_000
"""Up to this size a scan or a rewrite takes well under 0.1 s."""

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class Sizes:
    def __init__(self, tables: tuple[TableSize, ...]) -> None:
        self._by_name = {found.table: found for found in tables}

    def is_small(self, table: str) -> bool:
        """Return whether a scan or a rewrite of this table blocks only for a moment."""
        found = self._by_name.get(table)
        if found is None or found.rows is None or found.rows > SMALL_ROWS:
            return False
        return found.bytes is None or found.bytes <= SMALL_BYTES

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
# The first match applies.
_SCANS = (
    (_INDEX, "index_blocks_writes"),
    (_NOT_NULL, "not_null_scans"),
    (_CONSTRAINT, "validates_under_lock"),
)
_OTHER_SCAN = "scans_table"
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
    table = work.table
    if table in work.forecast.rewrites:
        return _of_table("rewrites_table", table, work, sizes)
    if table not in work.forecast.scans or _is_parent(work):
        return _of_parent(work, sizes)
    code = next((code for pattern, code in _SCANS if pattern.match(work.sql)), _OTHER_SCAN)
    return _of_table(code, table, work, sizes)


def _of_table(code: str, table: str, work: _Work, sizes: Sizes) -> Finding:
    """Return a finding about a statement that writes or reads all of this table."""
    return make_finding(
        code,
        step=work.step,
        operation=work.operation,
        is_mild=sizes.is_small(table),
        table=table,
        size=sizes.in_words(table),
        waits=work.waits,
        parent=work.table,
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
    return _of_table("locks_parent", reads[0], work, sizes)
