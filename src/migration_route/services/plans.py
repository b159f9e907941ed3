"""Returns plans with their SQL, forecasts, findings and estimates, and the health check.

Estimates and the dates of deferred steps come from the ledger. Nothing is executed.
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
from migration_route.execution.preflight import HealthProbe, schedule_for
from migration_route.ledger.queries import first_deferrals, previous_durations
from migration_route.planning import fresh_process, sql
from migration_route.planning.findings import environment, findings_of, steps
from migration_route.planning.graph import without_translations
from migration_route.planning.impact import impact_of_plan, rewritten_by
from migration_route.planning.phases import (
    NO_DEFERRALS,
    Deferrals,
    FirstDeferral,
    MigrationPlan,
)
from migration_route.planning.plan import (
    DEFAULT_DETAILS,
    Details,
    Estimate,
    Finding,
    Plan,
    PlanRequest,
    Step,
)
from migration_route.planning.planner import make_plan
from migration_route.policy.health_gate import HealthDecision, evaluate_health
from migration_route.policy.schedule import Schedule
from migration_route.services.audit import audited

logger = logging.getLogger("migration_route.services")


def deferrals_of(database: str) -> Deferrals:
    """Return when each step was first deferred, and by which build.

    While the ledger cannot be read, no step has a date, so no delay counts as over.
    """
    try:
        deferrals = first_deferrals(database)
    except DatabaseUnavailable:
        logger.warning("The ledger cannot be read: deferred steps have no date.")
        return NO_DEFERRALS
    return {
        label: FirstDeferral(at=at, build=build) for label, (at, build) in deferrals.items()
    }


@without_translations()
def enrich(
    plan: Plan, migrations: MigrationPlan, deferrals: Deferrals, details: Details
) -> Plan:
    """Return the plan with the requested details, and the step at which they continue."""
    detailed = with_forecasts(plan, migrations, details)
    detailed = detailed.with_details(steps=_with_estimates(detailed.steps, plan.mode))
    findings = (
        *findings_of(detailed, migrations),
        *steps.phase_findings(detailed, deferrals),
        *environment.findings(detailed, migrations),
    )
    return detailed.with_details(findings=_of_this_piece(findings, detailed, details))


@without_translations()
def with_forecasts(
    plan: Plan, migrations: MigrationPlan, details: Details = DEFAULT_DETAILS
) -> Plan:
    """Return the plan with SQL and forecasts, without estimates and findings."""
    steps, more = sql.with_sql(plan.steps, migrations, plan.database, details)
    steps, tables = sql.with_forecasts(
        steps, plan.database, mode=plan.mode, budget=sql.BUDGET
    )
    more = _first_step_without_forecast(steps, details, mode=plan.mode) or more
    return plan.with_details(steps=steps, tables=tables, details_next=more)


def _first_step_without_forecast(
    steps: tuple[Step, ...], details: Details, *, mode: Mode
) -> int | None:
    """Return the first step that has SQL but no forecast for lack of time.

    None if there is none, or if no step has a forecast.
    """
    if mode is Mode.FAKE:
        return None
    for position, step in enumerate(steps[details.after :], start=details.after):
        if any(item.sql and item.forecasts is None for item in step.operations):
            return position if position > details.after else None
    return None


def _with_estimates(steps: tuple[Step, ...], mode: Mode) -> tuple[Step, ...]:
    """Return the steps with their previous durations, if the ledger has them."""
    if mode is not Mode.APPLY:
        return steps
    keys = [(step.app, step.name, step.direction, step.digest) for step in steps]
    try:
        durations = previous_durations(keys)
    except DatabaseUnavailable:
        logger.info("No estimates: the ledger cannot be read", exc_info=True)
        return steps
    return tuple(
        replace(step, estimate=Estimate(**asdict(durations[key])))
        if key in durations
        else step
        for step, key in zip(steps, keys, strict=True)
    )


def _of_this_piece(
    findings: tuple[Finding, ...], plan: Plan, details: Details
) -> tuple[Finding, ...]:
    """Omit the findings that an earlier piece of the plan contains."""
    if not details.after:
        return findings
    steps = {step.label for step in plan.steps[details.after : plan.details_next]}
    return tuple(finding for finding in findings if finding.step in steps)


def plan(
    request: PlanRequest, actor: Actor, details: Details | None = DEFAULT_DETAILS
) -> Plan:
    """Return the plan with its SQL and findings, or without details.

    Raises what `planning.planner.make_plan` raises, `Unauthenticated` and `Forbidden`.
    """
    with audited(actor, "plan", database=request.database):
        authorise(actor, Scope.PLAN, database=request.database)
        return plan_with_details(request, details)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanReading:
    """A plan, with Django's own migration plan."""

    plan: Plan
    migrations: MigrationPlan | None  # None: another process has made the plan


def read_plan(
    request: PlanRequest, actor: Actor, details: Details = DEFAULT_DETAILS
) -> PlanReading:
    """Return what `plan` returns, with Django's plan, so that it need not be made again."""
    with audited(actor, "plan", database=request.database):
        authorise(actor, Scope.PLAN, database=request.database)
        return _detailed(request, details)


def plan_with_details(request: PlanRequest, details: Details | None) -> Plan:
    """Return the plan with these details, or without details."""
    return plain_plan(request) if details is None else detailed_plan(request, details)


def detailed_plan(request: PlanRequest, details: Details = DEFAULT_DETAILS) -> Plan:
    """Return the plan with its SQL, forecasts and findings.

    A plan that this process cannot make is made in a new process.
    """
    return _detailed(request, details).plan


def _detailed(request: PlanRequest, details: Details) -> PlanReading:
    deferrals = deferrals_of(request.database)
    bare, migrations = make_plan(request, deferrals)
    if fresh_process.is_needed(migrations):
        from_new_process = fresh_process.plan_in_new_process(request, details)
        return PlanReading(plan=from_new_process, migrations=None)
    if steps.pending_before_deploy(bare):
        detailed = bare.with_details(findings=tuple(steps.phase_findings(bare, deferrals)))
    else:
        detailed = enrich(bare, migrations, deferrals, details)
    return PlanReading(plan=detailed, migrations=migrations)


@without_translations()
def plain_plan(request: PlanRequest) -> Plan:
    """Return the plan as it is fingerprinted, with the findings that can refuse it only.

    A plan that this process cannot make is made in a new process.
    """
    deferrals = deferrals_of(request.database)
    bare, migrations = make_plan(request, deferrals)
    if fresh_process.is_needed(migrations):
        return fresh_process.plan_in_new_process(request, None)
    if steps.pending_before_deploy(bare):
        return bare.with_details(findings=tuple(steps.phase_findings(bare, deferrals)))
    findings = (
        *steps.phase_findings(bare, deferrals),
        *environment.findings(bare, migrations),
    )
    return bare.with_details(findings=findings)


def next_opening(database: str) -> Schedule:
    """Return when a run on this database may start if it is requested now."""
    return schedule_for(database)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The health of one database, for a plan."""

    database: str
    moment: HealthDecision
    ignored: tuple[str, ...] = ()  # signals that the settings ignore


def health(request: PlanRequest, actor: Actor, read: PlanReading | None = None) -> Health:
    """Check the health signals of the database; nothing is executed.

    `read` is the same plan with its forecasts, if it is available. Otherwise the plan is
    made here, with its forecasts if a signal depends on them.

    Raises what `planning.planner.make_plan` raises, `Unauthenticated` and `Forbidden`.
    """
    with audited(actor, "health", database=request.database):
        authorise(actor, Scope.PLAN, database=request.database)
        if read is None or read.migrations is None:
            bare, migrations = make_plan(request)
        else:
            bare, migrations = read.plan, read.migrations
        impact = impact_of_plan(bare, migrations)
        if read is not None:
            impact = _with_forecasts(impact, read.plan)
        with closing(HealthProbe(request.database)) as probe:
            signals = probe.look(impact)
            if any(signal.lacks_forecast for signal in signals):
                forecast_plan = with_forecasts(bare, migrations)
                signals = probe.look(_with_forecasts(impact, forecast_plan))
        settings = route_settings().health or HealthSettings()
        return Health(
            database=request.database,
            moment=evaluate_health(signals, settings),
            ignored=tuple(settings.ignore),
        )


def _with_forecasts(impact: Impact, forecast_plan: Plan) -> Impact:
    rewritten, unforecast = rewritten_by(forecast_plan)
    return replace(impact, rewritten=rewritten, unforecast=unforecast)
