"""What is told of a plan: SQL, forecasts, findings, and how long its steps took before.

Since when have which steps been put off, as far as the ledger knows?

Show what would happen.

Tell whether now is a good moment for a plan.
"""

from __future__ import annotations

import logging
from contextlib import closing
from dataclasses import asdict, dataclass, replace

from migration_route.access.actors import Actor, authorise
from migration_route.conf import route_settings
from migration_route.core.enums import Mode, Scope
from migration_route.core.errors import DatabaseUnavailable
from migration_route.core.values import HealthSettings, Impact
from migration_route.execution.preflight import HealthProbe
from migration_route.ledger.queries import first_deferrals, previous_durations
from migration_route.planning import fresh_process, sql
from migration_route.planning.findings import deployment, environment, findings_of
from migration_route.planning.graph import without_translations
from migration_route.planning.impact import impact_of_plan, rewritten_by
from migration_route.planning.phases.split import NEVER, Deferrals, FirstDeferral
from migration_route.planning.plan import (
    AT_FIRST,
    Details,
    Estimate,
    Finding,
    Plan,
    PlanRequest,
    Step,
)
from migration_route.planning.planner import MigrationPlan, make_plan
from migration_route.policy.health_gate import HealthDecision, evaluate_health
from migration_route.services.audit import audited

logger = logging.getLogger("migration_route.services")


def deferrals_of(database: str) -> Deferrals:
    """Return when each step was first put off, and by which build. Where the ledger
    cannot be read, nothing is dated: no delay counts as over."""
    try:
        found = first_deferrals(database)
    except DatabaseUnavailable:
        logger.warning("The ledger cannot be read: what is deferred stays undated.")
        return NEVER
    return {
        label: FirstDeferral(at=at, build=build) for label, (at, build) in found.items()
    }


@without_translations()
def enrich(
    plan: Plan, migrations: MigrationPlan, deferrals: Deferrals, details: Details
) -> Plan:
    """Return the plan with as much as the details allow, and where to go on."""
    told = with_forecasts_only(plan, migrations, details)
    told = told.with_details(steps=_with_estimates(told.steps, plan.mode))
    about = (
        *findings_of(told, migrations),
        *deployment.findings(told, deferrals),
        *environment.findings(told, migrations),
    )
    return told.with_details(findings=_of_this_piece(about, told, details))


@without_translations()
def with_forecasts_only(
    plan: Plan, migrations: MigrationPlan, details: Details = AT_FIRST
) -> Plan:
    """Return the plan with SQL and forecasts alone."""
    steps, more = sql.with_sql(plan.steps, migrations, plan.database, details)
    steps, tables = sql.with_forecasts(
        steps, plan.database, mode=plan.mode, budget=sql.BUDGET
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
        took = previous_durations(keys)
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


def plan(request: PlanRequest, actor: Actor, details: Details | None = AT_FIRST) -> Plan:
    """Return the plan with its SQL and findings, or without details; nothing is executed.

    Raises what `planning.planner.make_plan` raises, `Unauthenticated` and `Forbidden`.
    """
    with audited(actor, "plan", database=request.database):
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
    with audited(actor, "plan", database=request.database):
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
    if fresh_process.is_needed(migrations):
        anew = fresh_process.plan_in_new_process(request, details)
        return PlanReading(plan=anew, migrations=None)
    if deployment.comes_first(found):
        told = found.with_details(findings=tuple(deployment.findings(found, deferrals)))
    else:
        told = enrich(found, migrations, deferrals, details)
    return PlanReading(plan=told, migrations=migrations)


@without_translations()
def plain_plan(request: PlanRequest) -> Plan:
    """Return the plan as it is fingerprinted, from this process or a fresh one; of the
    findings, only those that may refuse it."""
    deferrals = deferrals_of(request.database)
    found, migrations = make_plan(request, deferrals)
    if fresh_process.is_needed(migrations):
        return fresh_process.plan_in_new_process(request, None)
    if deployment.comes_first(found):
        return found.with_details(findings=tuple(deployment.findings(found, deferrals)))
    about = (
        *deployment.findings(found, deferrals),
        *environment.findings(found, migrations),
    )
    return found.with_details(findings=about)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How one database is, for whoever wants to carry out a plan there."""

    database: str
    moment: HealthDecision
    ignored: tuple[str, ...] = ()  # signals that the settings do not heed


def health(request: PlanRequest, actor: Actor, read: PlanReading | None = None) -> Health:
    """Look at the database, and return what the signals come to; nothing is begun.

    `read` is the same plan with its forecasts, where it has been read already; else it is
    made, and its forecasts where a signal depends on them.

    Raises what `planning.planner.make_plan` raises, `Unauthenticated` and `Forbidden`.
    """
    with audited(actor, "health", database=request.database):
        authorise(actor, Scope.PLAN, database=request.database)
        if read is None or read.migrations is None:
            found, migrations = make_plan(request)
        else:
            found, migrations = read.plan, read.migrations
        touched = impact_of_plan(found, migrations)
        if read is not None:
            touched = _foreseen(touched, read.plan)
        with closing(HealthProbe(request.database)) as looking:
            signals = looking.look(touched)
            if any(signal.lacks_forecast for signal in signals):
                foretold = with_forecasts_only(found, migrations)
                signals = looking.look(_foreseen(touched, foretold))
        settings = route_settings().health or HealthSettings()
        return Health(
            database=request.database,
            moment=evaluate_health(signals, settings),
            ignored=tuple(settings.ignore),
        )


def _foreseen(touched: Impact, told: Plan) -> Impact:
    rewritten, unforeseen = rewritten_by(told)
    return replace(touched, rewritten=rewritten, unforeseen=unforeseen)
