"""Collects the evidence for a decision about a plan, and decides."""

from __future__ import annotations

from migration_route.access.actors import Actor
from migration_route.conf import route_settings
from migration_route.core.enums import ActorKind
from migration_route.core.errors import StaleCode
from migration_route.core.values import ActorRef, ApprovalRequirement, RecordedDecision
from migration_route.ledger.queries import unresolved_runs
from migration_route.ledger.records import RunRecord
from migration_route.planning import sources
from migration_route.planning.plan import Details, Plan, PlanRequest
from migration_route.policy.approvals import reads_findings, requirement_for
from migration_route.policy.decision import Decision, Denied, Evidence, decide
from migration_route.services.plans import detailed_plan, plain_plan

_EVERYTHING = Details(budget=20.0)  # seconds; a step without details counts as grave


def plan_for_decision(wanted: PlanRequest, requester: ActorKind) -> tuple[Plan, bool]:
    """Return the plan with the details that the decision needs.

    The flag is true if the plan contains all its findings; they are computed only if the
    approval policy depends on them.
    """
    plain = plain_plan(wanted)
    if not reads_findings(route_settings().approvals, plain, requester):
        return plain, False
    detailed = detailed_plan(wanted, _EVERYTHING)
    return detailed, detailed.details_next is None


def request_of(run: RunRecord) -> PlanRequest:
    """Return the request for the plan of a run."""
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
