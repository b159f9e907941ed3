"""Estimates how long the steps of a plan take, by how long they took before."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from migration_route.core.enums import Mode
from migration_route.core.errors import DatabaseUnavailable
from migration_route.ledger.durations import StepDuration, previous_durations
from migration_route.planning.impact import rows_of_steps
from migration_route.planning.plan import Estimate, Step

logger = logging.getLogger("migration_route.services")


def with_estimates(
    steps: tuple[Step, ...],
    database: str,
    mode: Mode,
    rows: Mapping[tuple[str, str], int] | None = None,
) -> tuple[Step, ...]:
    """Return the steps, with an estimate for each that finished before.

    `rows` are those of the tables of each step; with None, they are read.
    """
    if mode is not Mode.APPLY:
        return steps
    keys = [(step.app, step.name, step.direction, step.digest) for step in steps]
    try:
        durations = previous_durations(keys)
    except DatabaseUnavailable:
        logger.info("No estimates: the ledger cannot be read", exc_info=True)
        return steps
    if rows is None:
        rows = rows_of_steps(database, [(app, name) for app, name, *_ in durations])
    return tuple(
        replace(step, estimate=estimate_of(durations[key], rows.get((step.app, step.name))))
        if key in durations
        else step
        for step, key in zip(steps, keys, strict=True)
    )


def estimate_of(found: Sequence[StepDuration], rows: int | None) -> Estimate:
    """Return the estimate from at least one duration, the latest first.

    Where the rows are known, the duration with the nearest number of rows is scaled
    linearly, but not below the shortest one. Otherwise, it is the latest duration.
    """
    chosen = found[0]
    ms = chosen.ms
    sized = [(each, each.rows) for each in found if each.rows]
    if rows and sized:
        # By powers of two: of runs on tables of about the same size, the latest counts.
        chosen, before = min(sized, key=lambda each: abs(round(math.log2(each[1] / rows))))
        shortest = min(each.ms for each in found)
        ms = max(round(chosen.ms * rows / before), shortest)
    return Estimate(
        ms=ms,
        run=chosen.run,
        database=chosen.database,
        at=chosen.at,
        rehearsal=chosen.rehearsal,
        environment=chosen.environment,
        rows=rows,
        observed_ms=chosen.ms,
        observed_rows=chosen.rows,
    )
