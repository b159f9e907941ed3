"""Forecasts and estimates as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from migration_route.core.enums import Severity
from migration_route.core.risk import risk_of
from migration_route.core.values import Blocked, Forecast, TableSize
from migration_route.presentation import schemas
from migration_route.presentation.schemas import ForecastAnswer, TableAnswer

_ALGORITHMS = {
    "instant": "instant",
    "inplace": "in place",
    "copy": "table copy",
    "rebuild": "table rebuild",
}
_MOST_TABLES = 2  # named in one line
_UNITS = (("G", 10**9), ("M", 10**6), ("k", 10**3))


class Estimated(Protocol):
    """An estimate, of a plan or on the wire."""

    @property
    def ms(self) -> int: ...
    @property
    def database(self) -> str: ...
    @property
    def at(self) -> str: ...
    @property
    def rehearsal(self) -> str: ...
    @property
    def environment(self) -> str: ...
    @property
    def observed_ms(self) -> int | None: ...
    @property
    def observed_rows(self) -> int | None: ...


class Forecasted(Protocol):
    """An operation, of a plan or on the wire."""

    @property
    def forecasts(self) -> Sequence[Forecast | ForecastAnswer] | None: ...


def estimate_line(found: Estimated | None) -> str:
    """Return how long a step is expected to take if that differs from the time that it took
    before, and how long it took, and where; "" if unknown."""
    if found is None:
        return ""
    observed = found.ms if found.observed_ms is None else found.observed_ms
    expected = "" if observed == found.ms else f"expected {duration_words(found.ms)}, "
    where = f" in a rehearsal on {found.database}" if found.rehearsal else ""
    where = where or f" on {found.database}"
    where += f" of {found.environment}" if found.environment else ""
    if found.observed_rows is not None:
        rows = found.observed_rows
        where += f" at {_short(rows)} row{'' if rows == 1 else 's'}"
    return f"{expected}took {duration_words(observed)}{where}, {found.at[:10]}"


def duration_words(ms: int) -> str:
    return f"{ms} ms" if ms < 1000 else f"{ms / 1000:.1f} s"


class Expected(Protocol):
    """A plan or a run with its expected duration."""

    @property
    def expected_ms(self) -> int | None: ...
    @property
    def expected_unknown(self) -> int: ...


def expected_line(found: Expected) -> str:
    """Return the expected duration, and how many steps it leaves out; "" if no duration is
    known."""
    if found.expected_ms is None:
        return ""
    count = found.expected_unknown
    rest = f", {count} step{'' if count == 1 else 's'} unknown" if count else ""
    return f"expected {duration_words(found.expected_ms)}{rest}"


_ORDER = (Severity.BLOCKING, Severity.WARNING, Severity.INFO)


def risk_line(plan: schemas.PlanAnswer) -> str:
    """Return how dangerous a plan with its findings is."""
    operations = [operation for step in plan.steps for operation in step.operations]
    counts = [
        f"{count} {words}{'' if count == 1 else plural}"
        for severity, words, plural in (
            (Severity.BLOCKING, "blocking", ""),
            (Severity.WARNING, "warning", "s"),
            (Severity.INFO, "note", "s"),
        )
        if (count := sum(found.severity == severity for found in plan.findings))
    ]
    at_least = "" if plan.details_next is None else "at least "
    lock = lock_line(operations)
    parts = [f"{at_least}{risk_of(plan.findings)}", *counts, *filter(None, [lock])]
    return f"risk: {', '.join(parts)}"


def finding_lines(findings: Sequence[schemas.FindingAnswer]) -> Iterator[str]:
    """Yield the findings, the most severe first and those of a code together; a hint that
    they share comes once, behind the last."""
    severities = list(_ORDER)
    codes = {found.code: number for number, found in enumerate(reversed(findings))}

    def rank(found: schemas.FindingAnswer) -> tuple[int, int]:
        known = found.severity in severities
        place = severities.index(Severity(found.severity)) if known else len(severities)
        return place, -codes[found.code]

    ordered = sorted(findings, key=rank)
    for number, found in enumerate(ordered):
        where = f" {found.step}" if found.step else ""
        if found.operation is not None:
            where += f", operation {found.operation + 1}"
        yield f"  {found.severity}: {found.code}{where}: {found.message}"
        following = ordered[number + 1] if number + 1 < len(ordered) else None
        is_shared = following is not None and (following.code, following.hint) == (
            found.code,
            found.hint,
        )
        if found.accepted:
            yield f"    accepted: {found.accepted}"
        elif found.hint and not is_shared:
            yield f"    {found.hint}"


def operation_lines(
    operation: Forecasted, tables: Iterable[TableSize | TableAnswer]
) -> list[str]:
    """Return what the statements of an operation do, one line for each effect.

    A line that another line repeats or extends is left out.
    """
    sizes = {size.table: size for size in tables}
    lines = dict.fromkeys(_line(forecast, sizes) for forecast in operation.forecasts or ())
    return [
        line
        for line in lines
        if line and not any(other.startswith(f"{line} · ") for other in lines)
    ]


def _line(
    forecast: Forecast | ForecastAnswer, sizes: dict[str, TableSize | TableAnswer]
) -> str:
    parts = [] if forecast.is_understood else ["not recognized, worst case assumed"]
    by_effect: dict[str, list[str]] = {}
    for lock in forecast.locks:
        by_effect.setdefault(_blocked(lock.blocks), []).append(lock.table)
    parts += [
        f"locks {', '.join(tables)}: {effect}" for effect, tables in by_effect.items()
    ]
    rest = [table for table in forecast.scans if table not in forecast.rewrites]
    if forecast.rewrites:
        parts.append(f"rewrites {_sized(forecast.rewrites, sizes)}")
    if rest:
        parts.append(f"scans {_sized(rest, sizes)}")
    if forecast.algorithm and forecast.locks:
        parts.append(_ALGORITHMS.get(forecast.algorithm, forecast.algorithm))
    return " · ".join(parts)


def lock_line(operations: Iterable[Forecasted]) -> str:
    """Return the tables with the strongest locks of these operations, and what those block;
    "" if no reads and no writes are blocked."""
    by_effect: dict[str, dict[str, None]] = {}
    for operation in operations:
        for forecast in operation.forecasts or ():
            for lock in forecast.locks:
                by_effect.setdefault(_blocked(lock.blocks), {})[lock.table] = None
    for effect in ("blocks reads and writes", "blocks writes"):
        if tables := list(by_effect.get(effect, {})):
            more = len(tables) - _MOST_TABLES
            names = ", ".join(tables[:_MOST_TABLES])
            return f"{names}{f' and {more} more' if more > 0 else ''}: {effect}"
    return ""


def _blocked(blocks: Iterable[str]) -> str:
    if Blocked.READS in blocks:
        return "blocks reads and writes"
    return "blocks writes" if Blocked.WRITES in blocks else "blocks only schema changes"


def _sized(tables: Iterable[str], sizes: dict[str, TableSize | TableAnswer]) -> str:
    return ", ".join(f"{table}{_size(sizes.get(table))}" for table in tables)


def _size(size: TableSize | TableAnswer | None) -> str:
    if size is None or (size.rows is None and size.bytes is None):
        return ""
    parts = []
    if size.rows is not None:
        parts.append(f"{_short(size.rows)} row{'' if size.rows == 1 else 's'}")
    if size.bytes is not None:
        parts.append(_short(size.bytes, unit="B"))
    return f" ({', '.join(parts)})"


def _short(count: int, *, unit: str = "") -> str:
    """Format 1234567 as "1.2 M", or as "1.2 MB"."""
    for prefix, worth in _UNITS:
        if count >= worth:
            digits = 1 if count < 9.95 * worth else 0
            number = f"{count / worth:.{digits}f}".removesuffix(".0")
            return f"{number} {prefix}{unit}"
    return f"{count} {unit}".strip()
