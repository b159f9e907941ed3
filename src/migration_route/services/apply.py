"""Carry out a plan that was read."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from migration_route.access.actors import Actor, authorise
from migration_route.conf import route_settings
from migration_route.conf.databases import require_session_connection
from migration_route.core import clock
from migration_route.core.canonical_json import digest
from migration_route.core.enums import Action, Mode, Phase, Scope, WaitingReason
from migration_route.core.errors import ActiveRun, SessionOrphaned
from migration_route.core.values import ApprovalRequirement
from migration_route.execution.launchers import launcher
from migration_route.ledger import runs
from migration_route.ledger.bootstrap import install
from migration_route.ledger.entries import Draft, write_if_possible
from migration_route.ledger.evidence import CarriedOut
from migration_route.ledger.queries import (
    active_runs,
    find_repeated,
    refuse_permit_of_a_run,
)
from migration_route.ledger.records import DeferredRecord, RunRecord, StepRecord
from migration_route.planning import sources
from migration_route.planning.plan import Plan, PlanRequest, require_well_formed
from migration_route.policy.decision import (
    Allowed,
    Decision,
    Denied,
    NeedsApproval,
    scopes_for,
)
from migration_route.services import permits, release
from migration_route.services.audit import audited
from migration_route.services.decisions import evaluate, plan_for_decision
from migration_route.services.launch import (
    check_time,
    launch,
    require_runnable,
    require_schedule,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyRequest:
    """Carry out the plan with this fingerprint."""

    database: str = "default"
    targets: tuple[str, ...] = ()
    mode: Mode = Mode.APPLY
    phase: Phase | None = None  # before or after the deploy; None: everything
    fingerprint: str = ""
    reason: str = ""
    build: str = ""  # the build that must be answering; "" for any
    rebuild_invalid_indexes: bool = False  # drop those that a step makes anew
    idempotency_key: str | None = None
    at: datetime | None = None  # not before, aware; None: as soon as it may
    wait_for_window: bool = True  # False: it begins now, or is refused

    def digest(self) -> str:
        """Return what tells a repeated request from another one."""
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
    """Start a run of the plan and return it; the same Idempotency-Key starts it once.
    Where the policy asks for approval, the run waits for that, and nothing is started.

    Raises what `planning.planner.make_plan` raises, `Unauthenticated`, `Forbidden`,
    `InvalidRequest` for a malformed fingerprint or a time out of range, the refusals of
    `deciding.policy.decide` and `ledger.opening.open_run`, and `PoolerDetected`.
    """
    with audited(actor, "apply", database=request.database):
        authorise(actor, Scope.APPLY, database=request.database)
        require_well_formed(request.fingerprint)
        check_time(request.at)
        permits.require_permitted(
            actor.permit,
            database=request.database,
            mode=request.mode,
            fingerprint=request.fingerprint,
            rebuild_invalid_indexes=request.rebuild_invalid_indexes,
        )
        require_runnable(request.database)
        if earlier := _earlier(request, actor):
            return earlier
        wanted = PlanRequest(
            database=request.database,
            targets=request.targets,
            mode=request.mode,
            phase=request.phase,
        )
        plan, all_told = plan_for_decision(wanted, actor.kind)
        needed = scopes_for(direction=plan.direction, mode=plan.mode)
        authorise(actor, *needed, database=request.database)
        decision = decide_on(plan, request, actor, all_told=all_told)
        match decision:
            case Allowed():
                return _start(decision, request, actor)
            case NeedsApproval():
                return create_awaiting_approval(plan, decision, request, actor)
            case Denied(error=error):
                raise error
            case _:
                assert_never(decision)


def _earlier(request: ApplyRequest, actor: Actor) -> RunRecord | None:
    """Return the run that this request's key has begun before.

    Raises `ActiveRun` when another run owns the database, after a look whether it
    still lives; `OrphanBackend` when only its session does.
    """
    if earlier := find_repeated(_key(request, actor), request.digest()):
        return earlier
    refuse_permit_of_a_run(actor.permit.id if actor.permit else None)
    active = active_runs().get(request.database)
    if active is not None and (active := release.refresh(active)).is_active:
        if release.is_outdated(active):
            return None
        if active.waiting_reason == WaitingReason.ORPHAN_BACKEND:
            raise _orphan(active)
        raise ActiveRun(
            f"Run {active.id}, which is {active.state}, owns {request.database!r}.",
            run=active.id,
        )
    return None


def _orphan(run: RunRecord) -> SessionOrphaned:
    session = run.waiting_facts.get("session", {})
    pid = f" ({session['pid']})" if session else ""
    return SessionOrphaned(
        f"The processes of run {run.id} are gone, but its session{pid} in "
        f"{run.database!r} is still at work.",
        run=run.id,
        **session,
    )


def _key(request: ApplyRequest, actor: Actor) -> str | None:
    """Return the key as it is stored: one actor's key is not another's."""
    if request.idempotency_key is None:
        return None
    words = f"{actor.kind}\0{actor.name}\0{request.idempotency_key}"
    return hashlib.sha256(words.encode()).hexdigest()


def decide_on(
    plan: Plan,
    request: ApplyRequest,
    actor: Actor,
    *,
    all_told: bool,
    resolving: str = "",
) -> Decision:
    """Decide whether the plan may run now; the run that is being resolved by it does
    not stand in its way."""
    return evaluate(
        plan,
        all_told=all_told,
        fingerprint=request.fingerprint,
        requester=actor.identity,
        build=request.build,
        rebuild_invalid_indexes=request.rebuild_invalid_indexes,
        resolving=resolving,
        permitted_by=actor.permit.issued_by if actor.permit else None,
    )


def _start(permit: Allowed, request: ApplyRequest, actor: Actor) -> RunRecord:
    launcher()  # what cannot start anything is told before there is a run
    run, is_new = _open(permit.plan, request, actor, carried_out=None)
    if is_new:
        launch(permit, run)
    return run


def create_resuming(
    permit: Allowed, request: ApplyRequest, actor: Actor, *, carried_out: CarriedOut
) -> RunRecord:
    """Put a permitted run on record that finds the first operations of its first step
    carried out; `launch` starts it. Raises `ActiveRun`."""
    launcher()
    return _open(permit.plan, request, actor, carried_out=carried_out)[0]


def create_awaiting_approval(
    plan: Plan,
    decision: NeedsApproval,
    request: ApplyRequest,
    actor: Actor,
    *,
    carried_out: CarriedOut | None = None,
    resumes: str = "",
) -> RunRecord:
    """Put a run on record that waits for approval; nothing is started. Raises
    `ActiveRun`, and `Misconfigured` where nothing could start it later."""
    launcher()
    return _open(
        plan,
        request,
        actor,
        carried_out=carried_out,
        demand=decision.demand,
        resumes=resumes,
    )[0]


def _open(
    plan: Plan,
    request: ApplyRequest,
    actor: Actor,
    *,
    carried_out: CarriedOut | None,
    demand: ApprovalRequirement | None = None,
    resumes: str = "",
) -> tuple[RunRecord, bool]:
    waiting = require_schedule(plan.database, at=request.at, waits=request.wait_for_window)
    require_session_connection(plan.database)
    release.supersede_outdated(plan.database)
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
            steps=_records(plan, carried_out),
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
            demand=demand,
            resumes=resumes,
            begin_at=clock.format_time(request.at) if request.at else "",
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


def _records(plan: Plan, carried_out: CarriedOut | None) -> tuple[StepRecord, ...]:
    """Return the steps of a plan as they are put on record; the first one with what the
    run that is resumed has carried out of it."""
    steps = tuple(
        StepRecord(
            app=step.app,
            name=step.name,
            direction=step.direction,
            digest=step.digest,
            rolls_back=step.rolls_back,
        )
        for step in plan.steps
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
