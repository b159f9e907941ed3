"""What would each statement of a plan do to the tables that are there?

Told by the vendor from the text of the statement and from the catalog as it is.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from django.db import DatabaseError

from migration_route.connecting import own_connection
from migration_route.forecast import Forecast, TableSize
from migration_route.planning.plan import Operation, Step
from migration_route.vendors import vendor_of
from migration_route.vendors.interface import Forecaster
from migration_route.vocabulary import Mode

logger = logging.getLogger("migration_route.planning")

BUDGET = 2.0
"""Seconds that a door spends on forecasts; steps beyond it keep `forecasts=None`."""


def with_forecasts(
    steps: tuple[Step, ...], alias: str, *, mode: Mode, budget: float
) -> tuple[tuple[Step, ...], tuple[TableSize, ...]]:
    """Return the steps with forecasts for as many as the budget (seconds) allows, in
    order, and the sizes of the tables that they touch.

    A plan that sends no statements, because it only records them, has none.
    """
    if mode is Mode.FAKE or not any(step.operations for step in steps):
        return steps, ()
    deadline = time.monotonic() + budget
    told: list[Step] = []
    sizes: tuple[TableSize, ...] = ()
    try:
        with own_connection(alias) as connection:
            forecaster = vendor_of(alias).forecaster(connection)
            for step in steps:
                if time.monotonic() > deadline:
                    break
                told.append(with_forecast(step, forecaster))
            sizes = forecaster.sizes(tables_of(told))
    except DatabaseError:
        # The plan is true without it; what was told so far is as well.
        logger.warning("No forecast for %s", alias, exc_info=True)
    return (*told, *steps[len(told) :]), sizes


def tables_of(steps: list[Step]) -> frozenset[str]:
    """Return the tables that the forecasts of these steps name."""
    return frozenset(
        table
        for step in steps
        for operation in step.operations
        for forecast in operation.forecasts or ()
        for table in (
            *(lock.table for lock in forecast.locks),
            *forecast.rewrites,
            *forecast.scans,
        )
    )


def with_forecast(step: Step, forecaster: Forecaster) -> Step:
    """Return one step with forecasts. Raises `django.db.DatabaseError`."""
    return replace(
        step,
        operations=tuple(_with_forecasts(each, forecaster) for each in step.operations),
    )


def _with_forecasts(operation: Operation, forecaster: Forecaster) -> Operation:
    if operation.opaque or operation.sql is None:
        forecaster.pass_by()
        return operation
    forecasts: tuple[Forecast, ...] = tuple(map(forecaster.foretell, operation.sql))
    return replace(operation, forecasts=forecasts)
