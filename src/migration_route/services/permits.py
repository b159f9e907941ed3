"""Issues permits, each for one run of one plan, and returns that plan and its run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from migration_route.access import permits
from migration_route.access.actors import Actor, authorise
from migration_route.access.permits import ApplyPermit
from migration_route.conf import route_settings
from migration_route.core import clock
from migration_route.core.enums import Action, Direction, Scope
from migration_route.core.errors import (
    InvalidRequest,
    PlanChanged,
    Refused,
    Unauthenticated,
)
from migration_route.ledger.entries import Draft, write_if_possible
from migration_route.ledger.queries import run_of_permit
from migration_route.ledger.records import RunRecord
from migration_route.planning import sources
from migration_route.planning.plan import (
    Plan,
    PlanRequest,
    require_well_formed,
    same_plan,
)
from migration_route.policy.decision import scopes_for
from migration_route.services.apply import ApplyRequest
from migration_route.services.audit import audited
from migration_route.services.plans import plain_plan
from migration_route.services.release import refresh

LIFETIME = timedelta(hours=1)
_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitRequest:
    """A request for a permit for the plan with this fingerprint."""

    plan: PlanRequest
    fingerprint: str
    reason: str = ""
    lifetime: timedelta = LIFETIME
    rebuild_invalid_indexes: bool = False


def issue(request: PermitRequest, actor: Actor) -> tuple[ApplyPermit, str]:
    """Return a permit for one run of the plan, and its signed text.

    Raises `PlanChanged` when the fingerprint of the plan differs, and what
    `planning.planner.make_plan` raises.
    """
    wanted = request.plan
    with audited(actor, "permit", database=wanted.database):
        _check(request)
        plan = plain_plan(wanted)
        needed = scopes_for(direction=plan.direction, mode=plan.mode)
        authorise(actor, *needed, database=wanted.database)
        if not same_plan(plan.fingerprint, request.fingerprint):
            raise PlanChanged(fingerprint=plan.fingerprint, build=plan.build)
        if plan.direction is Direction.NONE:
            raise Refused("The plan has no steps: there is nothing to permit.")
    now = datetime.now(UTC)
    permit = ApplyPermit(
        id=permits.new_id(),
        issued_by=actor.name,
        issued_at=clock.format_time(now),
        expires=clock.format_time(now + request.lifetime),
        fingerprint=plan.fingerprint,
        database=plan.database,
        targets=wanted.targets,
        mode=plan.mode,
        phase=wanted.phase,
        reason=request.reason,
        rebuild_invalid_indexes=request.rebuild_invalid_indexes,
        scopes=tuple(needed),
    )
    text = permits.sign_permit(permit)
    write_if_possible(_entry(permit, actor))
    return permit, text


def _check(request: PermitRequest) -> None:
    if not route_settings().permits:
        raise Refused(
            'Permits are disabled: MIGRATION_ROUTE["PERMITS"] is False.',
            hint="Use 'manage.py migration_route apply', which needs no permit.",
        )
    if not request.fingerprint:
        raise InvalidRequest(
            "A permit needs the fingerprint of its plan.",
            hint="Review the plan and pass its fingerprint.",
        )
    require_well_formed(request.fingerprint)
    if not timedelta(0) < request.lifetime <= permits.MAX_LIFETIME:
        raise InvalidRequest(
            "The lifetime of a permit must be positive and at most 24 hours."
        )
    if len(request.reason) > _LONGEST_REASON:
        raise InvalidRequest(
            f"The reason of a permit has at most {_LONGEST_REASON} characters."
        )


def _entry(permit: ApplyPermit, actor: Actor) -> Draft:
    return Draft(
        action=Action.PERMIT_ISSUED,
        actor_kind=actor.kind,
        actor_name=actor.name,
        address=actor.address,
        database=permit.database,
        build=sources.build(),
        facts={
            "permit": permit.id,
            "fingerprint": permit.fingerprint,
            "targets": list(permit.targets),
            "mode": permit.mode,
            "phase": permit.phase,
            "expires": permit.expires,
            "reason": permit.reason,
        },
    )


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
    return same_plan(permit.fingerprint, plan.fingerprint)


def apply_request(permit: ApplyPermit) -> ApplyRequest:
    """Return the only request that a permit allows, which also returns its plan."""
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
