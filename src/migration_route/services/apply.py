"""Creates and starts the run of a plan, or records that it waits for approval."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from migration_route.access.actors import Actor, authorise
from migration_route.access.permits import ApplyPermit
from migration_route.conf import route_settings
from migration_route.conf.databases import require_session_connection
from migration_route.core import clock
from migration_route.core.canonical_json import digest
from migration_route.core.enums import Action, Mode, Scope, WaitingReason
from migration_route.core.errors import ActiveRun, Forbidden, SessionOrphaned
from migration_route.execution.launchers import get_launcher, launch
from migration_route.execution.preflight import (
    check_time,
    require_runnable,
    require_schedule,
)
from migration_route.ledger import runs
from migration_route.ledger.bootstrap import install
from migration_route.ledger.entries import Draft, write_if_possible
from migration_route.ledger.queries import (
    active_runs,
    find_repeated,
    refuse_redeemed_permit,
)
from migration_route.ledger.records import DeferredRecord, RunRecord, StepRecord
from migration_route.ledger.step_evidence import CompletedOperations
from migration_route.planning import sources
from migration_route.planning.impact import rows_of_steps
from migration_route.planning.plan import (
    Plan,
    PlanRequest,
    require_well_formed,
    same_plan,
)
from migration_route.policy.decision import (
    Allowed,
    Decision,
    Denied,
    NeedsApproval,
    scopes_for,
)
from migration_route.services import release
from migration_route.services.audit import audited
from migration_route.services.estimates import with_estimates
from migration_route.services.plans import evaluate, plan_for_decision


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyRequest(PlanRequest):
    """A request to apply the plan with this fingerprint."""

    fingerprint: str = ""
    reason: str = ""
    build: str = ""  # the required build of this process; "": any
    rebuild_invalid_indexes: bool = False  # drop invalid indexes that a step recreates
    idempotency_key: str | None = None
    at: datetime | None = None  # earliest start, aware; None: as soon as possible
    wait_for_window: bool = True  # False: the run starts now, or is refused

    def digest(self) -> str:
        """Return the digest that detects a different request with the same key."""
        return digest(
            [
                self.database,
                list(self.targets),
                self.mode,
                self.fingerprint,
                self.reason,
                self.build,
                self.rebuild_invalid_indexes,
                self.phase,
                self.at and clock.format_time(self.at),
                self.wait_for_window,
            ]
        )


def apply(request: ApplyRequest, actor: Actor) -> RunRecord:
    """Start a run of the plan and return it; an Idempotency-Key starts it once.

    If the policy requires approval, the run waits for it, and no process is started.

    Raises what `planning.planner.make_plan` raises, `Unauthenticated`, `Forbidden`,
    `InvalidRequest` for a malformed fingerprint or a time out of range, the refusals of
    `policy.decision.decide` and `ledger.runs.create_run`, and `PoolerDetected`.
    """
    with audited(actor, "apply", database=request.database):
        authorise(actor, Scope.APPLY, database=request.database)
        require_well_formed(request.fingerprint)
        check_time(request.at)
        _require_permitted_plan(request, actor.permit)
        require_runnable(request.database)
        if earlier := find_repeated(_key(request, actor), request.digest()):
            return earlier
        refuse_redeemed_permit(actor.permit.id if actor.permit else None)
        outdated = _require_no_active_run(request.database)
        plan, has_all_details = plan_for_decision(request, actor.kind)
        needed = scopes_for(direction=plan.direction, mode=plan.mode)
        authorise(actor, *needed, database=request.database)
        decision = decide_on(plan, request, actor, has_all_details=has_all_details)
        if isinstance(decision, Denied):
            raise decision.error
        run, is_new = create_run(decision, request, actor, outdated=outdated)
        if is_new and isinstance(decision, Allowed):
            launch(decision, run)
        return run


def _require_permitted_plan(request: ApplyRequest, permit: ApplyPermit | None) -> None:
    """Raise `Forbidden` when the request has a permit for another plan.

    A permit is valid for the one plan that its issuer has reviewed.
    """
    if permit is None:
        return
    matches = (
        permit.database == request.database
        and permit.mode is request.mode
        and permit.rebuild_invalid_indexes == request.rebuild_invalid_indexes
        and same_plan(permit.fingerprint, request.fingerprint)
    )
    if not matches:
        raise Forbidden(
            "This permit is for another plan.",
            hint=f"Use it for the plan {permit.fingerprint} on {permit.database!r}.",
        )


def _require_no_active_run(database: str) -> RunRecord | None:
    """Return the run that a new one replaces, which waits for the approval of an outdated
    plan.

    Raises `ActiveRun` when another run owns the database and is still alive,
    `SessionOrphaned` when only its session is alive.
    """
    active = active_runs().get(database)
    if active is None or not (active := release.refresh(active)).is_active:
        return None
    if release.is_outdated(active):
        return active
    if active.waiting_reason == WaitingReason.ORPHANED_SESSION:
        raise _session_orphaned(active)
    raise ActiveRun(
        f"Run {active.id} ({active.state}) owns the database {database!r}.",
        run=active.id,
    )


def _session_orphaned(run: RunRecord) -> SessionOrphaned:
    session = run.waiting_facts.get("session", {})
    pid = f" ({session['pid']})" if session else ""
    return SessionOrphaned(
        f"The processes of run {run.id} are gone, but its session{pid} in "
        f"{run.database!r} is still running.",
        run=run.id,
        **session,
    )


def _key(request: ApplyRequest, actor: Actor) -> str | None:
    """Return the stored form of the key: two actors may use the same key."""
    if request.idempotency_key is None:
        return None
    text = f"{actor.kind}\0{actor.name}\0{request.idempotency_key}"
    return hashlib.sha256(text.encode()).hexdigest()


def decide_on(
    plan: Plan,
    request: ApplyRequest,
    actor: Actor,
    *,
    has_all_details: bool,
    resolving: str = "",
) -> Decision:
    """Decide whether the plan may run now.

    The run `resolving`, which this plan resolves, does not block it.
    """
    return evaluate(
        plan,
        has_all_details=has_all_details,
        fingerprint=request.fingerprint,
        requester=actor.identity,
        build=request.build,
        rebuild_invalid_indexes=request.rebuild_invalid_indexes,
        resolving=resolving,
        permitted_by=actor.permit.issued_by if actor.permit else None,
    )


def create_run(
    decision: Allowed | NeedsApproval,
    request: ApplyRequest,
    actor: Actor,
    *,
    outdated: RunRecord | None,
    carried_out: CompletedOperations | None = None,
    resumes: str = "",
) -> tuple[RunRecord, bool]:
    """Return the run and whether it is new; no process is started.

    `outdated` is a run that this one replaces, `carried_out` what is complete of its first
    step, and `resumes` the run that it resolves when it is approved. Raises `ActiveRun`,
    and `Misconfigured` when no launcher could start it.
    """
    get_launcher()  # a misconfigured launcher is reported before the run is created
    plan = decision.plan
    waiting = require_schedule(plan.database, at=request.at, waits=request.wait_for_window)
    require_session_connection(plan.database)
    if outdated is not None:
        release.supersede(outdated)
    if install():
        write_if_possible(
            Draft(
                action=Action.LEDGER_INSTALLED,
                actor_kind=actor.kind,
                actor_name=actor.name,
                address=actor.address,
                facts={"credential": actor.credential_facts} if actor.credential else {},
                database=route_settings().ledger_database,
                build=sources.build(),
            )
        )
    return runs.create_run(
        runs.NewRun(
            database=plan.database,
            direction=plan.direction,
            mode=plan.mode,
            targets=plan.targets,
            fingerprint=plan.fingerprint,
            steps=_step_records(plan, carried_out),
            actor_kind=actor.kind,
            actor_name=actor.name,
            actor_key=actor.identity.key,
            address=actor.address,
            credential=actor.credential_facts,
            permit=actor.permit.id if actor.permit else None,
            reason=request.reason,
            build=sources.build(),
            idempotency_key=_key(request, actor),
            request_digest=request.digest(),
            rebuild_invalid_indexes=request.rebuild_invalid_indexes,
            phase=plan.phase,
            approval_requirement=decision.approval_requirement
            if isinstance(decision, NeedsApproval)
            else None,
            resumes=resumes,
            not_before=clock.format_time(request.at) if request.at else "",
            waiting=waiting,
            deferred=tuple(
                DeferredRecord(
                    app=left.app,
                    name=left.name,
                    digest=left.digest,
                    phase=left.phase.phase,
                    why=left.why,
                    build=plan.build,
                )
                for left in plan.deferred
            ),
        )
    )


def _step_records(
    plan: Plan, carried_out: CompletedOperations | None
) -> tuple[StepRecord, ...]:
    """Return the step records of a plan.

    The first one contains the progress of the resumed run, if there is one.
    """
    rows: Mapping[tuple[str, str], int] = {}
    if plan.mode is Mode.APPLY:
        rows = rows_of_steps(plan.database, [(step.app, step.name) for step in plan.steps])
    estimated = with_estimates(plan.steps, plan.database, plan.mode, rows)
    steps = tuple(
        StepRecord(
            app=step.app,
            name=step.name,
            direction=step.direction,
            digest=step.digest,
            rolls_back=step.rolls_back,
            rows=rows.get((step.app, step.name)),
            expected_ms=None if step.estimate is None else step.estimate.ms,
        )
        for step in estimated
    )
    if carried_out is None:
        return steps
    first = replace(
        steps[0],
        done_operations=carried_out.count,
        added=carried_out.added,
        operations=carried_out.evidence,
    )
    return (first, *steps[1:])
