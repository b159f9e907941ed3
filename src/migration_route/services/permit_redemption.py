"""Returns the plan, the apply request and the run of a permit."""

from __future__ import annotations

from migration_route.access.actors import Actor, authorise
from migration_route.access.permits import ApplyPermit
from migration_route.core.enums import Scope
from migration_route.core.errors import Unauthenticated
from migration_route.ledger.queries import run_of_permit
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import Plan, PlanRequest, same_plan
from migration_route.services.apply import ApplyRequest
from migration_route.services.audit import audited
from migration_route.services.release import refresh


def require_permit(actor: Actor) -> ApplyPermit:
    """Return the permit of the actor.

    Raises `Unauthenticated` and `Forbidden` when it is invalid; the denial is recorded on
    the ledger.
    """
    with audited(actor, "permit"):
        authorise(actor, Scope.READ)
        if actor.permit is None:
            raise Unauthenticated("The request has no permit.")
        return actor.permit


def permits_plan(permit: ApplyPermit, plan: Plan) -> bool:
    """Whether the permit is for this plan."""
    return same_plan(permit.fingerprint, plan.fingerprint)


def plan_request(permit: ApplyPermit) -> PlanRequest:
    """Return the request for the plan of a permit."""
    return PlanRequest(
        database=permit.database,
        targets=permit.targets,
        mode=permit.mode,
        phase=permit.phase,
    )


def apply_request(permit: ApplyPermit) -> ApplyRequest:
    """Return the only apply request that a permit allows."""
    return ApplyRequest(
        database=permit.database,
        targets=permit.targets,
        mode=permit.mode,
        phase=permit.phase,
        fingerprint=permit.fingerprint,
        reason=permit.reason,
        rebuild_invalid_indexes=permit.rebuild_invalid_indexes,
    )


def run_using(permit: ApplyPermit, actor: Actor) -> RunRecord | None:
    """Return the refreshed run that has used this permit; None if there is none."""
    with audited(actor, "show", database=permit.database):
        authorise(actor, Scope.READ, database=permit.database)
        found = run_of_permit(permit.id)
        return None if found is None else refresh(found)
