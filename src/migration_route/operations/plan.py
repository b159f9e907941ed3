"""Show what would happen."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.errors import DatabaseUnavailable
from migration_route.ledger.durations import took_before
from migration_route.operations.recording import on_record
from migration_route.planning import forecasting, fresh, sql
from migration_route.planning.plan import Estimate, Plan, PlanRequest, Step
from migration_route.planning.planner import make_plan
from migration_route.planning.rules import findings_of, surroundings
from migration_route.vocabulary import Mode, Scope

logger = logging.getLogger("migration_route.operations")


def plan(request: PlanRequest, actor: Actor) -> Plan:
    """Return the plan with its SQL and findings; nothing is executed.

    Raises what `planning.planner.make_plan` raises, `Unauthenticated` and `Forbidden`.
    """
    with on_record(actor, "plan", database=request.database):
        authorise(actor, Scope.PLAN, database=request.database)
        return detailed_plan(request)


def detailed_plan(request: PlanRequest) -> Plan:
    """Return the plan with its SQL, forecasts and findings, from this process or a fresh
    one."""
    found, migrations = make_plan(request)
    if fresh.is_needed(migrations):
        return fresh.plan_in_new_process(request, detailed=True)
    steps = sql.with_sql(found.steps, migrations, request.database, budget=sql.BUDGET)
    steps, tables = forecasting.with_forecasts(
        steps, request.database, mode=found.mode, budget=forecasting.BUDGET
    )
    steps = _with_estimates(steps, found.mode)
    about = (*findings_of(found), *surroundings.findings(found, migrations))
    return found.with_details(steps=steps, findings=about, tables=tables)


def plain_plan(request: PlanRequest) -> Plan:
    """Return the plan as it is fingerprinted, from this process or a fresh one; of the
    findings, only those about the database as it is."""
    found, migrations = make_plan(request)
    if fresh.is_needed(migrations):
        return fresh.plan_in_new_process(request, detailed=False)
    return found.with_details(findings=surroundings.findings(found, migrations))


def _with_estimates(steps: tuple[Step, ...], mode: Mode) -> tuple[Step, ...]:
    """Return the steps with how long they took before, as far as that is on record."""
    if mode is not Mode.APPLY:
        return steps
    keys = [(step.app, step.name, step.direction, step.digest) for step in steps]
    try:
        took = took_before(keys)
    except DatabaseUnavailable:
        logger.info("No estimates: the ledger cannot be read", exc_info=True)
        return steps
    return tuple(
        replace(step, estimate=Estimate(**asdict(took[key]))) if key in took else step
        for step, key in zip(steps, keys, strict=True)
    )
