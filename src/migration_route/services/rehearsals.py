"""Rehearses plans on a copy, or in place with a rollback, and returns the reports."""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.db import connections

from migration_route.access.actors import Actor, authorise, may
from migration_route.conf import route_settings
from migration_route.conf.databases import (
    find_target,
    refuse_tenants,
    require_session_connection,
    using_private_connection,
)
from migration_route.core.enums import (
    CopyKind,
    Direction,
    RehearsalState,
    RunState,
    Scope,
)
from migration_route.core.errors import (
    ActiveRun,
    DatabaseUnavailable,
    FingerprintRequired,
    InvalidRequest,
    LaunchFailed,
    Misconfigured,
    PlanChanged,
)
from migration_route.execution.launchers.process import reap, remove_log, spawn
from migration_route.execution.posix_signals import handle_shutdown_signals
from migration_route.execution.rehearsal import reaper
from migration_route.execution.rehearsal.in_place import (
    InPlaceRehearsalRunner,
    require_in_place,
)
from migration_route.execution.rehearsal.runner import RehearsalRunner
from migration_route.execution.supervisor.child import Child
from migration_route.ledger import rehearsals
from migration_route.ledger.bootstrap import install
from migration_route.ledger.queries import active_runs
from migration_route.ledger.rehearsals import NewRehearsal, RehearsalRecord
from migration_route.ledger.step_evidence import StepError
from migration_route.planning import sources
from migration_route.planning.plan import Plan, PlanRequest, require_well_formed, same_plan
from migration_route.services.audit import audited, require_valid_id
from migration_route.services.plans import plain_plan
from migration_route.vendors import copies_of, in_place_of, vendor_of

_PAUSE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearseRequest(PlanRequest):
    """A request to rehearse the plan with this fingerprint."""

    fingerprint: str = ""
    kind: CopyKind = CopyKind.SCHEMA
    round_trip: bool = False
    in_place: bool = False  # on the database itself, in a transaction that is rolled back
    reason: str = ""


def rehearse(request: RehearseRequest, actor: Actor) -> RehearsalRecord:
    """Start a rehearsal of the plan and return it.

    Raises what `planning.planner.make_plan` raises, `Unauthenticated`, `Forbidden`,
    `FingerprintRequired`, `PlanChanged`, `ActiveRun`, `ActiveRehearsal`,
    `CannotRehearse`, `LaunchFailed`, and what `require_in_place` raises.
    """
    with audited(actor, "rehearse", database=request.database):
        authorise(actor, *_required_scopes(request), database=request.database)
        require_well_formed(request.fingerprint)
        target = find_target(request.database)
        refuse_tenants(target.alias)
        if vendor_of(target.alias).is_private(connections[target.alias]):
            raise Misconfigured(
                f"The database {target.alias!r} is in the memory of this process: another "
                "process cannot copy it.",
                hint="Use a database file.",
            )
        plan = plain_plan(request)
        _require_same(plan, request)
        for run in active_runs().values():
            # A run that waits for approval does not block: approvers can rehearse it first.
            awaits = run.state is RunState.AWAITING_APPROVAL
            if run.database == plan.database and not awaits:
                raise ActiveRun(
                    f"Run {run.id} ({run.state}) owns the database {plan.database!r}.",
                    run=run.id,
                )
        _require_means(plan, request)
        install()
        reaper.remove_leftover_copies(plan.database)
        record = rehearsals.create_rehearsal(_new_rehearsal(plan, request, actor))
    try:
        _launch(record)
    except LaunchFailed as error:
        rehearsals.move(
            record.id,
            to=RehearsalState.FAILED,
            expected={RehearsalState.QUEUED},
            error=StepError(type="LaunchFailed", message=str(error)),
        )
        raise
    return record


def _launch(record: RehearsalRecord) -> None:
    """Start the process and return at once; with the launcher "inline", when it has ended.

    Raises `LaunchFailed`.
    """
    arguments = ["run-rehearsal", record.id]
    arguments += ["--round-trip"] if record.round_trip else []
    process = spawn(record.id, *arguments)
    if route_settings().launcher == "inline":
        process.wait()
    else:
        reap(process, record.id)


def _require_same(plan: Plan, request: RehearseRequest) -> None:
    if plan.direction is Direction.NONE:
        raise InvalidRequest(f"There is nothing to rehearse on {plan.database!r}.")
    if not request.fingerprint:
        raise FingerprintRequired("A rehearsal needs the fingerprint of the plan.")
    if not same_plan(request.fingerprint, plan.fingerprint):
        raise PlanChanged(fingerprint=plan.fingerprint)


def _required_scopes(request: RehearseRequest) -> tuple[Scope, ...]:
    """Return the required scopes.

    In place, the rehearsal takes real locks on the database: it needs `force`, which only
    users can have.
    """
    return (Scope.REHEARSE, Scope.FORCE) if request.in_place else (Scope.REHEARSE,)


def _require_means(plan: Plan, request: RehearseRequest) -> None:
    """Raise the error of a missing requirement before the rehearsal is created."""
    require_session_connection(plan.database)
    if request.in_place:
        require_in_place(plan, round_trip=request.round_trip)
        return
    if route_settings().database(plan.database).rehearsal_alias:
        return
    with using_private_connection(plan.database) as connection:
        copies_of(plan.database).require(
            connection, with_data=request.kind is CopyKind.DATA
        )


def _new_rehearsal(plan: Plan, request: RehearseRequest, actor: Actor) -> NewRehearsal:
    return NewRehearsal(
        database=plan.database,
        # In place, the rows are always there.
        kind=CopyKind.DATA if request.in_place else request.kind,
        round_trip=request.round_trip,
        in_place=request.in_place,
        direction=plan.direction,
        targets=plan.targets,
        fingerprint=plan.fingerprint,
        steps=tuple((step.app, step.name, step.digest) for step in plan.steps),
        phase=plan.phase,
        left_out=tuple((left.app, left.name, left.digest) for left in plan.deferred),
        actor_kind=actor.kind,
        actor_name=actor.name,
        address=actor.address,
        credential=actor.credential_facts,
        reason=request.reason,
        build=sources.build(),
    )


def show(rehearsal: str, actor: Actor) -> RehearsalRecord:
    """Return a refreshed rehearsal.

    Raises `UnknownRehearsal`, `Unauthenticated` and `Forbidden`.
    """
    with audited(actor, "show-rehearsal"):
        authorise(actor, Scope.READ)
        found = rehearsals.find_rehearsal(require_valid_id(rehearsal, of="rehearsal"))
        authorise(actor, Scope.READ, database=found.database)
        return reaper.refresh_rehearsal(found)


def list_all(
    actor: Actor,
    *,
    database: str | None = None,
    before: str | None = None,
    limit: int = 20,
) -> list[RehearsalRecord]:
    """Return the rehearsals that the actor may read, newest first."""
    with audited(actor, "rehearsals", database=database or ""):
        authorise(actor, Scope.READ, database=database)
        if database is not None:
            find_target(database)
        if before is not None:
            require_valid_id(before, of="rehearsal")
        found = rehearsals.list_rehearsals(database=database, before=before, limit=limit)
        return [
            reaper.refresh_rehearsal(record)
            for record in found
            if may(actor, Scope.READ, record.database)
        ]


def wait(rehearsal: str, actor: Actor, *, seconds: float) -> RehearsalRecord:
    """Return the rehearsal when it has ended, or after `seconds` at the latest."""
    deadline = time.monotonic() + seconds
    while True:
        found = show(rehearsal, actor)
        left = deadline - time.monotonic()
        if not found.is_active or left <= 0:
            return found
        time.sleep(min(_PAUSE, left))


def remove_leftovers(actor: Actor) -> list[RehearsalRecord]:
    """Remove what rehearsals without processes have left; return those rehearsals."""
    with audited(actor, "rehearse"):
        authorise(actor, Scope.REHEARSE)
        return reaper.remove_leftover_copies()


def last_rehearsal_of(plan: Plan, actor: Actor) -> RehearsalRecord | None:
    """Return the last rehearsal of this plan that the actor may read.

    Also None while the ledger is unavailable: the plan itself does not need it.
    """
    if plan.direction is Direction.NONE or not may(actor, Scope.READ, plan.database):
        return None
    try:
        found = rehearsals.last_rehearsal_of(plan.fingerprint)
    except DatabaseUnavailable:
        return None
    return None if found is None else reaper.refresh_rehearsal(found)


def execute_rehearsal(rehearsal: str, *, round_trip: bool) -> RehearsalRecord:
    """Execute a queued rehearsal in this process and its children; return it as it ended.

    Raises `InvalidState` when it is not queued, `UnknownRehearsal`.
    """
    with handle_shutdown_signals() as signals:
        # Forked before any connection is opened: one worker per direction.
        children = [Child() for _ in range(2 if round_trip else 1)]
        try:
            record = rehearsals.find_rehearsal(rehearsal)
            runner = InPlaceRehearsalRunner if record.in_place else RehearsalRunner
            ended = runner(record, children, signals).conduct()
        finally:
            for child in children:
                child.kill()
            connections.close_all()
    remove_log(rehearsal)  # if the process dies, the log explains why
    return ended


def may_in_place(database: str, actor: Actor) -> bool:
    """Whether the actor may rehearse in place, and the database supports it."""
    scopes = (Scope.REHEARSE, Scope.FORCE)
    return all(may(actor, scope, database) for scope in scopes) and not (
        in_place_of(find_target(database).alias).reason
    )


def in_place_timeout(database: str) -> float:
    """Return for how many seconds a rehearsal in place may hold its locks."""
    return route_settings().database(database).in_place_timeout.total_seconds()
