"""How does a forecast look on the wire?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from migration_route import wire
from migration_route.forecast import Blocked, Forecast, TableLock, TableSize
from migration_route.planning.plan import Estimate, Step

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
