"""Returns plans with their SQL, forecasts, findings and estimates, decides about them, and
checks the health of a database for them.

Estimates and the dates of deferred steps come from the ledger. Nothing is executed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace

from migration_route.access.actors import Actor, authorise
from migration_route.conf import route_settings
from migration_route.conf.databases import find_target
from migration_route.core.enums import ActorKind, Mode, Scope
from migration_route.core.errors import DatabaseUnavailable, StaleCode
from migration_route.core.values import (
    ActorRef,
    ApprovalRequirement,
    HealthSettings,
    Impact,
    RecordedDecision,
)
from migration_route.execution.preflight import HealthProbe, schedule_for
from migration_route.ledger.queries import first_deferrals, unresolved_runs
from migration_route.ledger.records import RunRecord
from migration_route.ledger.rehearsals import last_rehearsal_of
from migration_route.planning import fresh_process, sources, sql
from migration_route.planning.findings import environment, findings_of, steps
from migration_route.planning.findings.kinds import make_finding
from migration_route.planning.graph import (
    Key,
    dependencies_within,
    without_translations,
)
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
    Finding,
    Plan,
    PlanRequest,
    Step,
)
from migration_route.planning.planner import make_plan
from migration_route.planning.recorders import read_recorder
from migration_route.policy.approvals import reads_findings, requirement_for
from migration_route.policy.decision import Decision, Denied, Evidence, decide
from migration_route.policy.schedule import HealthDecision, Schedule, evaluate_health
from migration_route.services.audit import audited
from migration_route.services.estimates import with_estimates

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


def enrich(
    plan: Plan, migrations: MigrationPlan, deferrals: Deferrals, details: Details
) -> Plan:
    """Return the plan with the requested details, and the step at which they continue."""
    detailed = with_forecasts(plan, migrations, details)
    detailed = detailed.with_details(
        steps=with_estimates(detailed.steps, plan.database, plan.mode)
    )
    findings = (
        *findings_of(detailed, migrations),
        *steps.phase_findings(detailed, deferrals),
        *environment.findings(detailed, migrations),
        *_rehearsal_findings(plan.fingerprint),
    )
    return detailed.with_details(findings=_of_this_piece(findings, detailed, details))


@without_translations()
def with_forecasts(
    plan: Plan, migrations: MigrationPlan, details: Details = DEFAULT_DETAILS
) -> Plan:
    """Return the plan with SQL and forecasts, without estimates and findings."""
    if not migrations:
        return plan.with_details(details_next=None)
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


def _rehearsal_findings(fingerprint: str) -> Iterator[Finding]:
    """Yield the findings of the last rehearsal of a plan."""
    try:
        rehearsal = last_rehearsal_of(fingerprint)
    except DatabaseUnavailable:
        logger.info("No rehearsal: the ledger cannot be read", exc_info=True)
        return
    for step in rehearsal.report.steps if rehearsal else ():
        if step.sql_differences:
            yield make_finding("sql_differs", step=step.label)


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

    A plan that this process cannot make is made in a new process. Raises what
    `planning.planner.make_plan` raises, `Unauthenticated` and `Forbidden`.
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
        read = _read(request)
        return PlanReading(
            plan=read.with_details(details),
            migrations=None if read.is_outdated else read.migrations,
        )


def dependencies_of(read: PlanReading) -> dict[Key, frozenset[Key]]:
    """Return, for each step of a plan, which other steps it depends on; nothing if another
    process has made the plan."""
    migrations = [migration for migration, _ in read.migrations or ()]
    return dependencies_within(read.plan.database, migrations)


def plan_with_details(request: PlanRequest, details: Details | None) -> Plan:
    """Return the plan with these details, or without details."""
    return plain_plan(request) if details is None else detailed_plan(request, details)


def detailed_plan(request: PlanRequest, details: Details = DEFAULT_DETAILS) -> Plan:
    """Return the plan with its SQL, forecasts and findings."""
    return _read(request).with_details(details)


def plain_plan(request: PlanRequest) -> Plan:
    """Return the plan as it is fingerprinted, with the findings that can refuse it only."""
    return _read(request).with_details(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _BarePlan:
    """A plan, and what adds its details without planning again."""

    request: PlanRequest
    plan: Plan
    migrations: MigrationPlan
    deferrals: Deferrals
    is_outdated: bool  # the disk has other code: a new process must make the plan

    @without_translations()
    def with_details(self, details: Details | None) -> Plan:
        """Return the plan with these details; with None, with the findings that can refuse
        it only."""
        if self.is_outdated:
            return fresh_process.plan_in_new_process(self.request, details)
        is_too_early = steps.pending_before_deploy(self.plan)
        if details is not None and not is_too_early:
            return enrich(self.plan, self.migrations, self.deferrals, details)
        findings = (
            *steps.phase_findings(self.plan, self.deferrals),
            *(() if is_too_early else environment.findings(self.plan, self.migrations)),
        )
        return self.plan.with_details(findings=findings)


@without_translations()
def _read(request: PlanRequest) -> _BarePlan:
    find_target(request.database)
    recorded = read_recorder(request.database)
    deferrals = deferrals_of(request.database)
    bare, migrations = make_plan(request, deferrals, recorded)
    return _BarePlan(
        request=request,
        plan=bare,
        migrations=migrations,
        deferrals=deferrals,
        is_outdated=fresh_process.is_needed(migrations),
    )


_EVERYTHING = Details(budget=20.0)  # seconds; a step without details counts as grave


def plan_for_decision(wanted: PlanRequest, requester: ActorKind) -> tuple[Plan, bool]:
    """Return the plan with the details that the decision needs.

    The flag is true if the plan contains all its findings; they are computed only if the
    approval policy depends on them.
    """
    bare = _read(wanted)
    plain = bare.with_details(None)
    if not reads_findings(route_settings().approvals, plain, requester):
        return plain, False
    detailed = bare.with_details(_EVERYTHING)
    return detailed, detailed.details_next is None


def request_of(run: RunRecord) -> PlanRequest:
    return PlanRequest(
        database=run.database, targets=run.targets, mode=run.mode, phase=run.phase
    )


def evaluate(
    plan: Plan,
    *,
    has_all_details: bool,
    fingerprint: str,
    requester: ActorRef,
    build: str = "",
    rebuild_invalid_indexes: bool = False,
    resolving: str = "",
    demanded: ApprovalRequirement | None = None,
    given: tuple[RecordedDecision, ...] = (),
    permitted_by: str | None = None,
) -> Decision:
    """Decide whether the plan may run now.

    The run `resolving`, which this plan resolves, does not block it.
    """
    settings = route_settings()
    unresolved = unresolved_runs().get(plan.database)
    evidence = Evidence(
        fingerprint=fingerprint,
        expected_build=build,
        builds=frozenset({sources.build(), plan.build}),
        rebuild_invalid_indexes=rebuild_invalid_indexes,
        unresolved=None if unresolved == resolving else unresolved,
        requester=requester,
        approvals=settings.approvals,
        has_all_details=has_all_details,
        demanded=demanded,
        given=given,
        permitted_by=permitted_by,
    )
    return decide(plan, evidence)


def reevaluate(run: RunRecord) -> Decision:
    """Decide about a recorded run by the current plan, policy and approvals.

    Approvals are valid for one build. Raises what `planning.planner.make_plan` raises.
    """
    if run.approval_requirement is not None and sources.is_other_build(run.build):
        return Denied(
            error=StaleCode(f"The current build is {sources.build()!r}, not {run.build!r}.")
        )
    plan, has_all_details = plan_for_decision(request_of(run), run.actor_kind)
    return evaluate(
        plan,
        has_all_details=has_all_details,
        fingerprint=run.fingerprint,
        requester=run.requester,
        rebuild_invalid_indexes=run.rebuild_invalid_indexes,
        resolving=run.resumes,
        demanded=run.approval_requirement,
        given=run.given,
    )


def approval_requirement_for(
    wanted: PlanRequest, plan: Plan, actor: Actor, details: Details | None
) -> ApprovalRequirement | None:
    """Return the approval requirement for this actor to apply the plan.

    `plan` was made with `details`.
    """
    policy = route_settings().approvals
    if not reads_findings(policy, plan, actor.kind):
        return requirement_for(plan, policy, actor.kind, has_all_details=False)
    if details is not None and not details.after and plan.details_next is None:
        return requirement_for(plan, policy, actor.kind, has_all_details=True)
    detailed, has_all_details = plan_for_decision(wanted, actor.kind)
    return requirement_for(detailed, policy, actor.kind, has_all_details=has_all_details)


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
