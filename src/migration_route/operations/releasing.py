"""What becomes of a run that waits for approval? It is let go, or waits in vain.

Whoever looks at a run looks after it. One that has its approvals is let go by the next
who looks, should the process that took the last of them have died; one whose time is over
has expired.
"""

from __future__ import annotations

import logging
from contextlib import suppress

from django.db import Error as DatabaseFailure

from migration_route import clock
from migration_route.deciding.approving import counted, is_met
from migration_route.deciding.policy import NeedsApproval, Permit, Refusal
from migration_route.deciding.windows import Later, Never
from migration_route.errors import (
    LaunchFailed,
    NotInThisState,
    PlanChanged,
    RouteError,
    StaleCode,
    UnknownTarget,
)
from migration_route.ledger import runs
from migration_route.ledger.opening import Waiting
from migration_route.ledger.reading import active_runs, find_run, silence
from migration_route.ledger.records import RunRecord, StepError
from migration_route.operations.launching import launch
from migration_route.operations.opening import WindowClosed
from migration_route.operations.resuming import held_to_resume, settle
from migration_route.operations.weighing import plan_to_decide, request_of, weigh_again
from migration_route.planning import sources
from migration_route.planning.fingerprint import same_plan
from migration_route.running.launchers import can_wait, is_patient, launcher
from migration_route.running.launchers.words import words_of
from migration_route.running.openings import opening_of, waiting_for
from migration_route.running.recovery import lost_runs
from migration_route.running.recovery.carriers import START
from migration_route.vocabulary import RunState

logger = logging.getLogger("migration_route.operations")

_UNBEGUN = frozenset({RunState.AWAITING_APPROVAL, RunState.QUEUED})
_LAUNCHES = 2  # of a run whose first process was never started


def look_after(run: RunRecord) -> RunRecord:
    """Return the run as it truly is: let go, expired, or concluded as
    `running.recovery.lost_runs` does it."""
    if run.demand is None or run.state not in _UNBEGUN:
        return lost_runs.look_after(run)
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
        or words_of(run.id).exists()  # it was started on this host
    ):
        return lost_runs.look_after(run)
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
