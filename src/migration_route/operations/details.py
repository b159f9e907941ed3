"""What is told of a plan: SQL, forecasts, findings, and how long its steps took before."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace

from migration_route.errors import DatabaseUnavailable
from migration_route.ledger.durations import took_before
from migration_route.planning import forecasting, sql
from migration_route.planning.graph import without_translations
from migration_route.planning.phases.dividing import Deferrals
from migration_route.planning.plan import AT_FIRST, Details, Estimate, Finding, Plan, Step
from migration_route.planning.planner import MigrationPlan
from migration_route.planning.rules import findings_of
from migration_route.planning.rules.phases import sides
from migration_route.planning.rules.surroundings import catalog
from migration_route.vocabulary import Mode

logger = logging.getLogger("migration_route.operations")


@without_translations()
def with_details(
    plan: Plan, migrations: MigrationPlan, deferrals: Deferrals, details: Details
) -> Plan:
    """Return the plan with as much as the details allow, and where to go on."""
    told = with_foresight(plan, migrations, details)
    told = told.with_details(steps=_with_estimates(told.steps, plan.mode))
    about = (
        *findings_of(told, migrations),
        *sides.findings(told, deferrals),
        *catalog.findings(told, migrations),
    )
    return told.with_details(findings=_of_this_piece(about, told, details))


@without_translations()
def with_foresight(
    plan: Plan, migrations: MigrationPlan, details: Details = AT_FIRST
) -> Plan:
    """Return the plan with SQL and forecasts alone."""
    steps, more = sql.with_sql(plan.steps, migrations, plan.database, details)
    steps, tables = forecasting.with_forecasts(
        steps, plan.database, mode=plan.mode, budget=forecasting.BUDGET
    )
    more = _without_forecast(steps, details, mode=plan.mode) or more
    return plan.with_details(steps=steps, tables=tables, details_next=more)


def _without_forecast(
    steps: tuple[Step, ...], details: Details, *, mode: Mode
) -> int | None:
    """Return from which step on the time was too short for forecasts, though not for SQL;
    None where that is not so, or where nothing at all could be foretold."""
    if mode is Mode.FAKE:
        return None
    for position, step in enumerate(steps[details.after :], start=details.after):
        if any(one.sql and one.forecasts is None for one in step.operations):
            return position if position > details.after else None
    return None


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


def _of_this_piece(
    findings: tuple[Finding, ...], plan: Plan, details: Details
) -> tuple[Finding, ...]:
    """Leave out what the pieces before this one have told."""
    if not details.after:
        return findings
    told = {step.label for step in plan.steps[details.after : plan.details_next]}
    return tuple(finding for finding in findings if finding.step in told)
