"""Show what would happen."""

from __future__ import annotations

from dataclasses import dataclass

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.operations.deferring import deferrals_of
from migration_route.operations.details import with_details
from migration_route.operations.recording import on_record
from migration_route.planning import fresh
from migration_route.planning.graph import without_translations
from migration_route.planning.plan import AT_FIRST, Details, Plan, PlanRequest
from migration_route.planning.planner import MigrationPlan, make_plan
from migration_route.planning.rules.phases import sides
from migration_route.planning.rules.surroundings import catalog
from migration_route.vocabulary import Scope


def plan(request: PlanRequest, actor: Actor, details: Details | None = AT_FIRST) -> Plan:
    """Return the plan with its SQL and findings, or without details; nothing is executed.

    Raises what `planning.planner.make_plan` raises, `Unauthenticated` and `Forbidden`.
    """
    with on_record(actor, "plan", database=request.database):
        authorise(actor, Scope.PLAN, database=request.database)
        return planned(request, details)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReading:
    """A plan, and Django's own list behind it for whoever needs both."""

    plan: Plan
    migrations: MigrationPlan | None  # None: another process has read the plan


def read_plan(
    request: PlanRequest, actor: Actor, details: Details = AT_FIRST
) -> PlanReading:
    """Return what `plan` returns, so that nothing of it has to be planned again."""
    with on_record(actor, "plan", database=request.database):
        authorise(actor, Scope.PLAN, database=request.database)
        return _detailed(request, details)


def planned(request: PlanRequest, details: Details | None) -> Plan:
    """Return the plan with these details, or without any."""
    return plain_plan(request) if details is None else detailed_plan(request, details)


def detailed_plan(request: PlanRequest, details: Details = AT_FIRST) -> Plan:
    """Return the plan with its SQL, forecasts and findings, from this process or a fresh
    one."""
    return _detailed(request, details).plan


def _detailed(request: PlanRequest, details: Details) -> PlanReading:
    deferrals = deferrals_of(request.database)
    found, migrations = make_plan(request, deferrals)
    if fresh.is_needed(migrations):
        anew = fresh.plan_in_new_process(request, details)
        return PlanReading(plan=anew, migrations=None)
    if sides.comes_first(found):
        told = found.with_details(findings=tuple(sides.findings(found, deferrals)))
    else:
        told = with_details(found, migrations, deferrals, details)
    return PlanReading(plan=told, migrations=migrations)


@without_translations()
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
