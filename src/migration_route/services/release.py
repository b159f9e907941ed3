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
    LaunchFailed,
    NotInThisState,
    PlanChanged,
    Refused,
    RouteError,
    StaleCode,
    UnknownTarget,
)
from migration_route.execution.launchers import can_wait, is_patient, launcher
from migration_route.execution.launchers.process import words_of
from migration_route.execution.preflight import opening_of, waiting_for
from migration_route.execution.recovery import reaper, reconcile
from migration_route.execution.recovery.reaper import START
from migration_route.ledger import runs
from migration_route.ledger.evidence import CarriedOut, StepError
from migration_route.ledger.queries import active_runs, find_run, silence
from migration_route.ledger.records import RunRecord, StepRecord
from migration_route.ledger.runs import Waiting
from migration_route.planning import sources
from migration_route.planning.plan import same_plan
from migration_route.policy.approvals import counted, is_met
from migration_route.policy.decision import NeedsApproval, Permit, Refusal
from migration_route.policy.schedule import Later, Never
from migration_route.services.decisions import plan_to_decide, request_of, weigh_again
from migration_route.services.launch import WindowClosed, launch


def go_on_at(found: RunRecord, step: StepRecord) -> CarriedOut:
    """Return what has been carried out of a step that is to be resumed; the caller holds
    the database. Raises `Refused` with the evidence where that is not proved."""
    reading = reconcile.reading_of(found, step)
    evidence = reconcile.evidence_now(step, reading)
    done, why_not = reconcile.first_to_resume(step, reading)
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
def held_to_resume(run: RunRecord) -> Iterator[runs.Change | None]:
    """Hold the database of a run that waited for approval to resume another one, and give
    what is to be written to that one; None where it has been written already.

    Raises `PlanChanged` where it would not go on at the operation that was approved.
    """
    with reconcile.held(run.database):
        found = find_run(run.resumes)
        if found.state is RunState.PARTIAL:
            _, step = reconcile.step_left(found)
            carried_out = go_on_at(found, step)
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


def settle(stopped: str, run: RunRecord, change: runs.Change) -> None:
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


def look_after(run: RunRecord) -> RunRecord:
    """Return the run as it truly is: let go, expired, or concluded as
    `running.recovery.lost_runs` does it."""
    if run.demand is None or run.state not in _UNBEGUN:
        return reaper.look_after(run)
    try:
        if run.state is RunState.AWAITING_APPROVAL:
            return _look_after_waiting(run)
        return _look_after_queued(run)
    except (NotInThisState, LaunchFailed):
        return find_run(run.id)  # somebody else was faster, or it has just failed
    except (RouteError, DatabaseFailure):
        logger.warning("Run %s could not be let go", run.id, exc_info=True)
        return run


def _look_after_waiting(run: RunRecord) -> RunRecord:
    if clock.now() > run.waiting_until:
        return _expire(run)
    if run.demand is None or not is_met(run.demand, run.given, requester=run.requester):
        return run
    return let_go(run)


def _look_after_queued(run: RunRecord) -> RunRecord:
    """Start the process of an approved run that nobody has started: whoever took the
    last approval died in this moment. Only one process of a run gets to work, even if
    there should be two."""
    launches = run.waiting_facts.get("launches", 0)
    if (
        is_patient()  # somebody comes for it
        or run.carrier
        or launches >= _LAUNCHES
        or silence(run) <= START
        or words_of(run.id) is not None  # it was started on this host
    ):
        return reaper.look_after(run)
    if run.demand and clock.age(run.created_at) > run.demand.lifetime:
        return _expire(run)
    return let_go(run)


def _expire(run: RunRecord) -> RunRecord:
    change = runs.Change(
        outcome="expired",
        reason="Nobody approved it in time.",
        only_if={"waiting_until": run.waiting_until},
    )
    return runs.move(run.id, to=RunState.EXPIRED, expected=_UNBEGUN, change=change)


def let_go(run: RunRecord) -> RunRecord:
    """Let a run go if plan, policy and approvals allow it now; return it as it is then.

    Raises `PlanChanged` or `StaleCode` after its plan has changed, which ends the run, and
    what else is in the way of it now, which does not.
    """
    match decide_now(run):
        case Permit() as permit:
            return _release_if_open(run, permit)
        case NeedsApproval():
            return run
        case Refusal(error=error):
            raise error


def let_go_with(run: RunRecord, decision: Permit | NeedsApproval) -> RunRecord:
    """Let a run go that has been approved this moment, if that was the last approval; its
    plan was looked at right before, with this decision."""
    if isinstance(decision, NeedsApproval):
        decision = decision.approved(run.given, requester=run.requester)
    if isinstance(decision, NeedsApproval):
        return run
    try:
        return _release_if_open(run, decision)
    except NotInThisState:
        return find_run(run.id)  # another who approved it was as fast


def decide_now(run: RunRecord) -> Permit | NeedsApproval | Refusal:
    """Decide about a run by what is so now; one whose plan has changed is stale."""
    decision: Permit | NeedsApproval | Refusal
    try:
        decision = weigh_again(run)
    except UnknownTarget as error:
        decision = Refusal(error=PlanChanged(f"The plan is not there any more: {error}"))
    if isinstance(decision, Refusal) and isinstance(
        decision.error, PlanChanged | StaleCode
    ):
        return Refusal(error=_void(run, decision.error))
    return decision


def is_outdated(run: RunRecord) -> bool:
    """Tell whether a run waits for the approval of a plan, or of a build, that is not the
    one of now any more."""
    if run.state is not RunState.AWAITING_APPROVAL:
        return False
    try:
        now, _ = plan_to_decide(request_of(run), run.actor_kind)
    except UnknownTarget:
        return True
    return sources.is_other_build(run.build) or not same_plan(
        now.fingerprint, run.fingerprint
    )


def make_way(database: str) -> None:
    """End a run that waits for the approval of a plan that is not the plan any more, in
    favour of one that is about to be put on record."""
    waiting = active_runs().get(database)
    if waiting is not None and is_outdated(waiting):
        with suppress(NotInThisState):  # somebody else has just ended it, or let it go
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


def _release_if_open(run: RunRecord, permit: Permit) -> RunRecord:
    """Let a run go; where it may not begin now and no process can wait for that, whoever
    looks when it may lets it go."""
    try:
        return release(run, permit)
    except WindowClosed:
        return find_run(run.id)


def release(run: RunRecord, permit: Permit) -> RunRecord:
    """Queue a run, or let it wait for its opening, and start its process; of several who
    do so, one does.

    Raises `NotInThisState` for the others, `WindowClosed` and `LaunchFailed`.
    """
    launcher()  # what cannot start anything is told before the run is queued
    waiting = _until_opening(run)
    queued = _queue_to_resume(run, waiting) if run.resumes else _queue(run, waiting)
    launch(permit, queued)
    return queued


def _until_opening(run: RunRecord) -> Waiting | None:
    """Return for what an approved run waits; None: for nothing, or it is let go already,
    and its process sees to that."""
    if run.state is RunState.QUEUED:
        return None
    found = opening_of(run)
    if isinstance(found, Never) or (isinstance(found, Later) and not can_wait()):
        raise WindowClosed(f"This may not begin now. {found.why}")
    return waiting_for(found) if isinstance(found, Later) else None


def _queue_to_resume(run: RunRecord, waiting: Waiting | None) -> RunRecord:
    try:
        with held_to_resume(run) as change:
            queued = _queue(run, waiting)
            if change is not None:
                settle(run.resumes, queued, change)
            return queued
    except PlanChanged as error:
        raise _void(run, error) from error


def _queue(run: RunRecord, waiting: Waiting | None) -> RunRecord:
    launches = run.waiting_facts.get("launches", 0) + 1
    demand = run.demand
    count = counted(demand, run.given, requester=run.requester) if demand else ()
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
