"""How is a forecast told? In JSON, and in one line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from migration_route import wire
from migration_route.forecast import Blocked, Forecast, TableLock, TableSize
from migration_route.planning.plan import Estimate, Operation, Plan, Step

# The words of the databases for their locks, each database's from weak to strong.
_MODES = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
    "NONE",
    "SHARED",
    "RESERVED",
    "EXCLUSIVE",
)
_ALGORITHMS = {
    "instant": "at once",
    "inplace": "in place",
    "copy": "as a copy",
    "rebuild": "by a remake",
}
_UNITS = (("G", 10**9), ("M", 10**6), ("k", 10**3))


def forecast_answer(forecast: Forecast) -> wire.ForecastAnswer:
    """Return the forecast of one statement."""
    return wire.ForecastAnswer(
        locks=[
            wire.TableLockAnswer(
                table=lock.table, mode=lock.mode, blocks=_in_order(lock.blocks)
            )
            for lock in forecast.locks
        ],
        rewrites=list(forecast.rewrites),
        scans=list(forecast.scans),
        algorithm=forecast.algorithm,
        is_understood=forecast.is_understood,
    )


def table_answers(tables: Iterable[TableSize]) -> list[wire.TableAnswer]:
    """Return how large tables are."""
    return [
        wire.TableAnswer(table=size.table, rows=size.rows, bytes=size.bytes)
        for size in tables
    ]


def estimate_answer(estimate: Estimate | None) -> wire.EstimateAnswer | None:
    """Return how long a step took before."""
    return None if estimate is None else wire.EstimateAnswer(**asdict(estimate))


def estimate_line(step: Step) -> str:
    """Say how long a step took before, and where; "" where nothing is on record."""
    found = step.estimate
    if found is None:
        return ""
    took = f"{found.ms} ms" if found.ms < 1000 else f"{found.ms / 1000:.1f} s"
    return f"took {took} on {found.database}, {found.at[:10]}"


def strongest_lock(step: Step) -> str | None:
    """Return the mode of the strongest lock that is foretold of a step."""
    return max((lock.mode for lock in _locks(step)), key=_MODES.index, default=None)


def blocked_by(step: Step) -> list[str]:
    """Return who is foretold to wait for a step, readers first."""
    return _in_order({who for lock in _locks(step) for who in lock.blocks})


def _locks(step: Step) -> list[TableLock]:
    return [
        lock
        for operation in step.operations
        for forecast in operation.forecasts or ()
        for lock in forecast.locks
    ]


def _in_order(blocks: Iterable[Blocked]) -> list[str]:
    return [str(who) for who in Blocked if who in set(blocks)]


def operation_lines(operation: Operation, plan: Plan) -> list[str]:
    """Tell what the statements of an operation do, a line for each that does something;
    what several of them do alike, or another one does and more, is told once."""
    sizes = {size.table: size for size in plan.tables}
    lines = dict.fromkeys(_line(forecast, sizes) for forecast in operation.forecasts or ())
    return [
        line
        for line in lines
        if line and not any(other.startswith(f"{line} · ") for other in lines)
    ]


def _line(forecast: Forecast, sizes: dict[str, TableSize]) -> str:
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
        parts.append(_ALGORITHMS[forecast.algorithm])
    return " · ".join(parts)


def _waiting(blocks: Iterable[Blocked]) -> str:
    if Blocked.READS in blocks:
        return "reads and writes wait"
    return "writes wait" if Blocked.WRITES in blocks else "only schema changes wait"


def _sized(tables: Iterable[str], sizes: dict[str, TableSize]) -> str:
    return ", ".join(f"{table}{_size(sizes.get(table))}" for table in tables)


def _size(size: TableSize | None) -> str:
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
