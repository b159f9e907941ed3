"""Show what would happen."""

from __future__ import annotations

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.operations.deferring import deferrals_of
from migration_route.operations.recording import on_record
from migration_route.planning import forecasting, fresh, sql
from migration_route.planning.plan import (
    AT_FIRST,
    Details,
    Finding,
    Plan,
    PlanRequest,
    Step,
)
from migration_route.planning.planner import make_plan
from migration_route.planning.rules import findings_of
from migration_route.planning.rules.phases import sides
from migration_route.planning.rules.surroundings import catalog
from migration_route.vocabulary import Mode, Scope


def plan(request: PlanRequest, actor: Actor, details: Details | None = AT_FIRST) -> Plan:
    """Return the plan with its SQL and findings, or without details; nothing is executed.

    Raises what `planning.planner.make_plan` raises, `Unauthenticated` and `Forbidden`.
    """
    with on_record(actor, "plan", database=request.database):
        authorise(actor, Scope.PLAN, database=request.database)
        return planned(request, details)


def planned(request: PlanRequest, details: Details | None) -> Plan:
    """Return the plan with these details, or without any."""
    return plain_plan(request) if details is None else detailed_plan(request, details)


def detailed_plan(request: PlanRequest, details: Details = AT_FIRST) -> Plan:
    """Return the plan with its SQL, forecasts and findings, from this process or a fresh
    one."""
    deferrals = deferrals_of(request.database)
    found, migrations = make_plan(request, deferrals)
    if fresh.is_needed(migrations):
        return fresh.plan_in_new_process(request, details)
    if sides.comes_first(found):
        return found.with_details(findings=tuple(sides.findings(found, deferrals)))
    steps, more = sql.with_sql(found.steps, migrations, request.database, details)
    steps, tables = forecasting.with_forecasts(
        steps, request.database, mode=found.mode, budget=forecasting.BUDGET
    )
    more = _without_forecast(steps, details, mode=found.mode) or more
    found = found.with_details(steps=steps, tables=tables, details_next=more)
    about = (
        *findings_of(found, migrations),
        *sides.findings(found, deferrals),
        *catalog.findings(found, migrations),
    )
    return found.with_details(findings=_of_this_piece(about, found, details))


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


def _of_this_piece(
    findings: tuple[Finding, ...], plan: Plan, details: Details
) -> tuple[Finding, ...]:
    """Leave out what the pieces before this one have told."""
    if not details.after:
        return findings
    told = {step.label for step in plan.steps[details.after : plan.details_next]}
    return tuple(finding for finding in findings if finding.step in told)


def plain_plan(request: PlanRequest) -> Plan:
    """Return the plan as it is fingerprinted, from this process or a fresh one; of the
    findings, only those that may refuse it."""
    deferrals = deferrals_of(request.database)
    found, migrations = make_plan(request, deferrals)
    if fresh.is_needed(migrations):
        return fresh.plan_in_new_process(request, None)
    if sides.comes_first(found):
        return found.with_details(findings=tuple(sides.findings(found, deferrals)))
    about = (
        *sides.findings(found, deferrals),
        *catalog.findings(found, migrations),
    )
    return found.with_details(findings=about)
