"""How is a forecast told in one line?"""

from __future__ import annotations

from collections.abc import Iterable

from migration_route.core.values import Blocked
from migration_route.presentation.schemas import (
    EstimateAnswer,
    ForecastAnswer,
    OperationAnswer,
    TableAnswer,
)

_ALGORITHMS = {
    "instant": "at once",
    "inplace": "in place",
    "copy": "as a copy",
    "rebuild": "by a remake",
}
_UNITS = (("G", 10**9), ("M", 10**6), ("k", 10**3))


def estimate_line(found: EstimateAnswer | None) -> str:
    """Say how long a step took before, and where; "" where nothing is on record."""
    if found is None:
        return ""
    took = f"{found.ms} ms" if found.ms < 1000 else f"{found.ms / 1000:.1f} s"
    return f"took {took} on {found.database}, {found.at[:10]}"


def operation_lines(operation: OperationAnswer, tables: Iterable[TableAnswer]) -> list[str]:
    """Tell what the statements of an operation do, a line for each that does something;
    what several of them do alike, or another one does and more, is told once."""
    sizes = {size.table: size for size in tables}
    lines = dict.fromkeys(_line(forecast, sizes) for forecast in operation.forecasts or ())
    return [
        line
        for line in lines
        if line and not any(other.startswith(f"{line} · ") for other in lines)
    ]


def _line(forecast: ForecastAnswer, sizes: dict[str, TableAnswer]) -> str:
    parts = [] if forecast.is_understood else ["not understood, so the worst is assumed"]
    who_waits: dict[str, list[str]] = {}
    for lock in forecast.locks:
        who_waits.setdefault(_waiting(lock.blocks), []).append(lock.table)
    parts += [f"locks {', '.join(tables)}: {who}" for who, tables in who_waits.items()]
    rest = [table for table in forecast.scans if table not in forecast.rewrites]
    if forecast.rewrites:
        parts.append(f"rewrites {_sized(forecast.rewrites, sizes)}")
    if rest:
        parts.append(f"reads all of {_sized(rest, sizes)}")
    if forecast.algorithm and forecast.locks:
        parts.append(_ALGORITHMS.get(forecast.algorithm, forecast.algorithm))
    return " · ".join(parts)


def _waiting(blocks: Iterable[str]) -> str:
    if Blocked.READS in blocks:
        return "reads and writes wait"
    return "writes wait" if Blocked.WRITES in blocks else "only schema changes wait"


def _sized(tables: Iterable[str], sizes: dict[str, TableAnswer]) -> str:
    return ", ".join(f"{table}{_size(sizes.get(table))}" for table in tables)


def _size(size: TableAnswer | None) -> str:
    if size is None or (size.rows is None and size.bytes is None):
        return ""
    told = []
    if size.rows is not None:
        told.append(f"{_short(size.rows)} row{'' if size.rows == 1 else 's'}")
    if size.bytes is not None:
        told.append(_short(size.bytes, unit="B"))
    return f" ({', '.join(told)})"


def _short(count: int, *, unit: str = "") -> str:
    """Write 1234567 as "1.2 M", or as "1.2 MB"."""
    for prefix, worth in _UNITS:
        if count >= worth:
            digits = 1 if count < 9.95 * worth else 0
            number = f"{count / worth:.{digits}f}".removesuffix(".0")
            return f"{number} {prefix}{unit}"
    return f"{count} {unit}".strip()
