"""Put together what a decision about a plan is made from, and make it."""

from __future__ import annotations

from migration_route.access.actors import Actor
from migration_route.conf import route_settings
from migration_route.core.enums import ActorKind
from migration_route.core.errors import StaleCode
from migration_route.core.values import ActorRef, ApprovalGiven, ApprovalRequirement
from migration_route.ledger.queries import unresolved_runs
from migration_route.ledger.records import RunRecord
from migration_route.planning import sources
from migration_route.planning.plan import Details, Plan, PlanRequest
from migration_route.policy.approvals import reads_findings, requirement_for
from migration_route.policy.decision import Decision, Denied, Evidence, decide
from migration_route.services.plans import detailed_plan, plain_plan

_EVERYTHING = Details(budget=20.0)  # seconds; what is not told then counts as grave


def plan_for_decision(wanted: PlanRequest, requester: ActorKind) -> tuple[Plan, bool]:
    """Return the plan with as much as a decision about it needs, and whether all of its
    findings are in it: they are looked for where the policy asks for them."""
    found = plain_plan(wanted)
    if not reads_findings(route_settings().approvals, found, requester):
        return found, False
    told = detailed_plan(wanted, _EVERYTHING)
    return told, told.details_next is None


def request_of(run: RunRecord) -> PlanRequest:
    """Return which plan a run carries out."""
    return PlanRequest(
        database=run.database, targets=run.targets, mode=run.mode, phase=run.phase
    )


def evaluate(
    plan: Plan,
    *,
    all_told: bool,
    fingerprint: str,
    requester: ActorRef,
    build: str = "",
    rebuild_invalid_indexes: bool = False,
    resolving: str = "",
    demanded: ApprovalRequirement | None = None,
    given: tuple[ApprovalGiven, ...] = (),
    permitted_by: str | None = None,
) -> Decision:
    """Decide whether the plan may run now; the run that is being resolved by it does
    not stand in its way."""
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
        all_told=all_told,
        demanded=demanded,
        given=given,
        permitted_by=permitted_by,
    )
    return decide(plan, evidence)


def reevaluate(run: RunRecord) -> Decision:
    """Decide about a run that is on record by the plan, the policy and the approvals of
    now; approvals are for one build. Raises what `planning.planner.make_plan` raises."""
    if run.demand is not None and sources.is_other_build(run.build):
        return Denied(
            error=StaleCode(f"This is build {sources.build()!r}, not {run.build!r}.")
        )
    plan, all_told = plan_for_decision(request_of(run), run.actor_kind)
    return evaluate(
        plan,
        all_told=all_told,
        fingerprint=run.fingerprint,
        requester=run.requester,
        rebuild_invalid_indexes=run.rebuild_invalid_indexes,
        resolving=run.resumes,
        demanded=run.demand,
        given=run.given,
    )


def approval_requirement_for(
    wanted: PlanRequest, plan: Plan, actor: Actor, details: Details | None
) -> ApprovalRequirement | None:
    """Return what would be demanded of this actor before they may carry out the plan,
    which was read with these details."""
    policy = route_settings().approvals
    if not reads_findings(policy, plan, actor.kind):
        return requirement_for(plan, policy, actor.kind, all_told=False)
    if details is not None and not details.after and plan.details_next is None:
        return requirement_for(plan, policy, actor.kind, all_told=True)
    told, all_told = plan_for_decision(wanted, actor.kind)
    return requirement_for(told, policy, actor.kind, all_told=all_told)
