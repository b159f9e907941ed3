"""What becomes of a run that waits for approval? It is let go, or waits in vain.

Whoever looks at a run looks after it. One that has its approvals is let go by the next
who looks, should the process that took the last of them have died; one whose time is over
has expired.

Where does a run go on that resumes another one, and what becomes of that?
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.db import Error as DatabaseFailure

from migration_route.core import clock
from migration_route.core.enums import Action, RunState
from migration_route.core.errors import (
    InvalidState,
    LaunchFailed,
    PlanChanged,
    Refused,
    RouteError,
    StaleCode,
    UnknownTarget,
)
from migration_route.execution.launchers import is_pull_based, launcher, supports_waiting
from migration_route.execution.launchers.process import log_path
from migration_route.execution.preflight import schedule_of_run, scheduled_wait
from migration_route.execution.recovery import reaper, reconcile
from migration_route.execution.recovery.reaper import START
from migration_route.ledger import runs
from migration_route.ledger.evidence import CarriedOut, StepError
from migration_route.ledger.queries import active_runs, find_run, heartbeat_age
from migration_route.ledger.records import RunRecord, StepRecord
from migration_route.ledger.runs import WaitInfo
from migration_route.planning import sources
from migration_route.planning.plan import same_plan
from migration_route.policy.approvals import is_satisfied, valid_approvals
from migration_route.policy.decision import Allowed, Denied, NeedsApproval
from migration_route.policy.schedule import NeverOpens, OpensLater
from migration_route.services.decisions import plan_for_decision, reevaluate, request_of
from migration_route.services.launch import WindowClosed, launch


def resume_point(found: RunRecord, step: StepRecord) -> CarriedOut:
    """Return what has been carried out of a step that is to be resumed; the caller holds
    the database. Raises `Refused` with the evidence where that is not proved."""
    reading = reconcile.compare_with_catalog(found, step)
    evidence = reconcile.evidence_now(step, reading)
    done, why_not = reconcile.resume_position(step, reading)
    if why_not:
        raise Refused(
            f"{step.label} cannot be resumed. {why_not}",
            hint="Put the database right by hand, then resolve as applied, as reverted "
            "or as it is.",
            run=found.id,
            operations=[one.to_dict() for one in evidence],
        )
    return CarriedOut(count=done, added=reconcile.added_to_resume(step), evidence=evidence)


@contextmanager
def lock_for_resume(run: RunRecord) -> Iterator[runs.Change | None]:
    """Hold the database of a run that waited for approval to resume another one, and give
    what is to be written to that one; None where it has been written already.

    Raises `PlanChanged` where it would not go on at the operation that was approved.
    """
    with reconcile.hold_database_lock(run.database):
        found = find_run(run.resumes)
        if found.state is RunState.PARTIAL:
            _, step = reconcile.interrupted_step(found)
            carried_out = resume_point(found, step)
            if carried_out.count != run.steps[0].done_operations:
                raise PlanChanged(f"{step.label} is not where it was any more.")
            yield change_for(run, carried_out)
        elif found.outcome == runs.RESUMED:
            yield None
        else:
            raise PlanChanged(f"Run {found.id} has been resolved in another way.")


def change_for(run: RunRecord, carried_out: CarriedOut) -> runs.Change:
    """Return what is written to the run that another one resumes, in the name of whoever
    has asked for that."""
    return runs.Change(
        action=Action.RESOLVED,
        outcome=runs.RESUMED,
        actor_kind=run.actor_kind,
        actor_name=run.actor_name,
        reason=run.reason,
        vouching={
            "how": "resume",
            "operations": [one.to_dict() for one in carried_out.evidence],
            "resumed_by": run.id,
        },
    )


def close_resumed_run(stopped: str, run: RunRecord, change: runs.Change) -> None:
    """End the run that stopped; where somebody else has, the new one does not begin."""
    try:
        runs.move(
            stopped, to=RunState.RECONCILED, expected={RunState.PARTIAL}, change=change
        )
    except Exception:
        error = StepError(type="NotResumed", message=f"Run {stopped} was not resolved.")
        runs.move(
            run.id,
            to=RunState.FAILED,
            expected={RunState.QUEUED, RunState.WAITING},
            change=runs.Change(outcome="launch_failed", error=error, steps=run.steps),
        )
        raise


logger = logging.getLogger("migration_route.services")

_UNBEGUN = frozenset({RunState.AWAITING_APPROVAL, RunState.QUEUED})
_LAUNCHES = 2  # of a run whose first process was never started


def refresh(run: RunRecord) -> RunRecord:
    """Return the run as it truly is: let go, expired, or concluded as
    `running.recovery.lost_runs` does it."""
    if run.demand is None or run.state not in _UNBEGUN:
        return reaper.reap(run)
    try:
        if run.state is RunState.AWAITING_APPROVAL:
            return _look_after_waiting(run)
        return _look_after_queued(run)
    except (InvalidState, LaunchFailed):
        return find_run(run.id)  # somebody else was faster, or it has just failed
    except (RouteError, DatabaseFailure):
        logger.warning("Run %s could not be let go", run.id, exc_info=True)
        return run


def _look_after_waiting(run: RunRecord) -> RunRecord:
    if clock.now() > run.waiting_until:
        return _expire(run)
    if run.demand is None or not is_satisfied(
        run.demand, run.given, requester=run.requester
    ):
        return run
    return try_release(run)


def _look_after_queued(run: RunRecord) -> RunRecord:
    """Start the process of an approved run that nobody has started: whoever took the
    last approval died in this moment. Only one process of a run gets to work, even if
    there should be two."""
    launches = run.waiting_facts.get("launches", 0)
    if (
        is_pull_based()  # somebody comes for it
        or run.carrier
        or launches >= _LAUNCHES
        or heartbeat_age(run) <= START
        or log_path(run.id) is not None  # it was started on this host
    ):
        return reaper.reap(run)
    if run.demand and clock.age(run.created_at) > run.demand.lifetime:
        return _expire(run)
    return try_release(run)


def _expire(run: RunRecord) -> RunRecord:
    change = runs.Change(
        outcome="expired",
        reason="Nobody approved it in time.",
        only_if={"waiting_until": run.waiting_until},
    )
    return runs.move(run.id, to=RunState.EXPIRED, expected=_UNBEGUN, change=change)


def try_release(run: RunRecord) -> RunRecord:
    """Let a run go if plan, policy and approvals allow it now; return it as it is then.

    Raises `PlanChanged` or `StaleCode` after its plan has changed, which ends the run, and
    what else is in the way of it now, which does not.
    """
    match decide_now(run):
        case Allowed() as permit:
            return _release_if_open(run, permit)
        case NeedsApproval():
            return run
        case Denied(error=error):
            raise error


def release_with(run: RunRecord, decision: Allowed | NeedsApproval) -> RunRecord:
    """Let a run go that has been approved this moment, if that was the last approval; its
    plan was looked at right before, with this decision."""
    if isinstance(decision, NeedsApproval):
        decision = decision.approved(run.given, requester=run.requester)
    if isinstance(decision, NeedsApproval):
        return run
    try:
        return _release_if_open(run, decision)
    except InvalidState:
        return find_run(run.id)  # another who approved it was as fast


def decide_now(run: RunRecord) -> Allowed | NeedsApproval | Denied:
    """Decide about a run by what is so now; one whose plan has changed is stale."""
    decision: Allowed | NeedsApproval | Denied
    try:
        decision = reevaluate(run)
    except UnknownTarget as error:
        decision = Denied(error=PlanChanged(f"The plan is not there any more: {error}"))
    if isinstance(decision, Denied) and isinstance(decision.error, PlanChanged | StaleCode):
        return Denied(error=_void(run, decision.error))
    return decision


def is_outdated(run: RunRecord) -> bool:
    """Tell whether a run waits for the approval of a plan, or of a build, that is not the
    one of now any more."""
    if run.state is not RunState.AWAITING_APPROVAL:
        return False
    try:
        now, _ = plan_for_decision(request_of(run), run.actor_kind)
    except UnknownTarget:
        return True
    return sources.is_other_build(run.build) or not same_plan(
        now.fingerprint, run.fingerprint
    )


def supersede_outdated(database: str) -> None:
    """End a run that waits for the approval of a plan that is not the plan any more, in
    favour of one that is about to be put on record."""
    waiting = active_runs().get(database)
    if waiting is not None and is_outdated(waiting):
        with suppress(InvalidState):  # somebody else has just ended it, or let it go
            _void(waiting, PlanChanged())


def _void(run: RunRecord, error: RouteError) -> RouteError:
    """End a run whose plan has changed; return what to tell whoever wanted it to go."""
    why = StepError(type=type(error).__name__, message=error.message)
    change = runs.Change(outcome=error.code, error=why)
    runs.move(run.id, to=RunState.STALE, expected=_UNBEGUN, change=change)
    facts = {**error.facts, "run": run.id}
    return type(error)(
        f"The plan that run {run.id} was asked for is not the plan any more: the run is "
        "stale, and its approvals are void.",
        hint="Read the plan as it is now, and ask for it anew.",
        **facts,
    )


def _release_if_open(run: RunRecord, permit: Allowed) -> RunRecord:
    """Let a run go; where it may not begin now and no process can wait for that, whoever
    looks when it may lets it go."""
    try:
        return release(run, permit)
    except WindowClosed:
        return find_run(run.id)


def release(run: RunRecord, permit: Allowed) -> RunRecord:
    """Queue a run, or let it wait for its opening, and start its process; of several who
    do so, one does.

    Raises `NotInThisState` for the others, `WindowClosed` and `LaunchFailed`.
    """
    launcher()  # what cannot start anything is told before the run is queued
    waiting = _until_opening(run)
    queued = _queue_to_resume(run, waiting) if run.resumes else _queue(run, waiting)
    launch(permit, queued)
    return queued


def _until_opening(run: RunRecord) -> WaitInfo | None:
    """Return for what an approved run waits; None: for nothing, or it is let go already,
    and its process sees to that."""
    if run.state is RunState.QUEUED:
        return None
    found = schedule_of_run(run)
    if isinstance(found, NeverOpens) or (
        isinstance(found, OpensLater) and not supports_waiting()
    ):
        raise WindowClosed(f"This may not begin now. {found.why}")
    return scheduled_wait(found) if isinstance(found, OpensLater) else None


def _queue_to_resume(run: RunRecord, waiting: WaitInfo | None) -> RunRecord:
    try:
        with lock_for_resume(run) as change:
            queued = _queue(run, waiting)
            if change is not None:
                close_resumed_run(run.resumes, queued, change)
            return queued
    except PlanChanged as error:
        raise _void(run, error) from error


def _queue(run: RunRecord, waiting: WaitInfo | None) -> RunRecord:
    launches = run.waiting_facts.get("launches", 0) + 1
    demand = run.demand
    count = valid_approvals(demand, run.given, requester=run.requester) if demand else ()
    change = runs.Change(
        reason="Its process is started again: nobody had started it."
        if run.state is RunState.QUEUED
        else "",
        waiting_reason=waiting.reason if waiting else "",
        waiting_until=waiting.until if waiting else "",
        waiting_facts=waiting.facts if waiting else {"launches": launches},
        vouching={
            "fingerprint": run.fingerprint,
            "approved_by": [[one.by.kind, one.by.name] for one in count],
        },
        # Of two who start it again at the same time, one does.
        only_if={"heartbeat_at": run.heartbeat_at} if launches > 1 else {},
    )
    to = RunState.WAITING if waiting else RunState.QUEUED
    return runs.move(run.id, to=to, expected={run.state}, change=change)
