"""Releases, expires and voids runs that wait for approval.

Every read of a run refreshes it: a run whose approvals are complete is released by the next
read, if the process that recorded the last approval has died; a run whose time is over
expires. A run that resumes another one resolves that run when it is released.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
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
from migration_route.execution.launchers import get_launcher, is_pull_based, launch
from migration_route.execution.launchers.process import log_path
from migration_route.execution.preflight import (
    WindowClosed,
    required_wait,
    schedule_of_run,
)
from migration_route.execution.recovery import reaper, reconcile
from migration_route.execution.recovery.reaper import START_TIMEOUT
from migration_route.ledger import runs
from migration_route.ledger.queries import active_runs, find_run, heartbeat_age
from migration_route.ledger.records import RunRecord, StepRecord
from migration_route.ledger.runs import WaitInfo
from migration_route.ledger.step_evidence import CompletedOperations, StepError
from migration_route.planning import sources
from migration_route.planning.plan import same_plan
from migration_route.policy.approvals import is_satisfied, valid_approvals
from migration_route.policy.decision import Allowed, Denied, NeedsApproval
from migration_route.services.plans import plan_for_decision, reevaluate, request_of


def resume_point(found: RunRecord, step: StepRecord) -> CompletedOperations:
    """Return which operations of a step to resume have been executed.

    The caller holds the database lock. Raises `Refused` with the evidence when that is not
    proved.
    """
    reading = reconcile.compare_with_catalog(found, step)
    evidence = reconcile.current_evidence(step, reading)
    done, reason = reconcile.resume_position(step, reading)
    if reason:
        raise Refused(
            f"{step.label} cannot be continued. {reason}",
            hint="Repair the database by hand, then resolve the run as applied, as "
            "reverted or as it is.",
            run=found.id,
            operations=[operation.to_dict() for operation in evidence],
        )
    return CompletedOperations(
        count=done, added=reconcile.additions_to_resume(step), evidence=evidence
    )


@contextmanager
def lock_for_resume(run: RunRecord) -> Iterator[runs.Change | None]:
    """Lock the database of an approved run that resumes another one.

    Yields the change to write to the resumed run; None if it is written already. Raises
    `PlanChanged` when the run would not continue at the operation that was approved.
    """
    with reconcile.hold_database_lock(run.database):
        found = find_run(run.resumes)
        if found.state is RunState.PARTIAL:
            _, step = reconcile.interrupted_step(found)
            carried_out = resume_point(found, step)
            if carried_out.count != run.steps[0].done_operations:
                raise PlanChanged(f"The progress of {step.label} has changed.")
            yield resolution_change(run, carried_out)
        elif found.outcome == runs.RESUMED:
            yield None
        else:
            raise PlanChanged(f"Run {found.id} was resolved in another way.")


def resolution_change(run: RunRecord, carried_out: CompletedOperations) -> runs.Change:
    """Return the change to write to the resumed run, in the name of the requester."""
    return runs.Change(
        action=Action.RESOLVED,
        outcome=runs.RESUMED,
        actor_kind=run.actor_kind,
        actor_name=run.actor_name,
        reason=run.reason,
        entry_facts={
            "how": "continue",
            "operations": [operation.to_dict() for operation in carried_out.evidence],
            "resumed_by": run.id,
        },
    )


def close_resumed_run(stopped: str, run: RunRecord, change: runs.Change) -> None:
    """Resolve the stopped run; if that is no longer possible, the new run fails."""
    try:
        runs.move(stopped, to=RunState.RESOLVED, expected={RunState.PARTIAL}, change=change)
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

_NOT_STARTED = frozenset({RunState.AWAITING_APPROVAL, RunState.QUEUED})
_MAX_LAUNCHES = 2  # of a run whose first process was never started


def refresh(run: RunRecord) -> RunRecord:
    """Return the current run, after releasing, expiring or reaping it if it is due."""
    if run.approval_requirement is None or run.state not in _NOT_STARTED:
        return reaper.reap(run)
    try:
        if run.state is RunState.AWAITING_APPROVAL:
            return _refresh_awaiting(run)
        return _refresh_queued(run)
    except (InvalidState, LaunchFailed):
        return find_run(run.id)  # another process was faster, or the run has just failed
    except (RouteError, DatabaseFailure):
        logger.warning("Releasing run %s failed", run.id, exc_info=True)
        return run


def _refresh_awaiting(run: RunRecord) -> RunRecord:
    if clock.now() > run.waiting_until:
        return _expire(run)
    if run.approval_requirement is None or not is_satisfied(
        run.approval_requirement, run.given, requester=run.requester
    ):
        return run
    return try_release(run)


def _refresh_queued(run: RunRecord) -> RunRecord:
    """Start the process of an approved run that was never started.

    The process that recorded the last approval died before it. If two processes are
    started, only one can claim the run.
    """
    launches = run.waiting_facts.get("launches", 0)
    if (
        is_pull_based()  # a worker or a task claims it
        or run.claimed_by
        or launches >= _MAX_LAUNCHES
        or heartbeat_age(run) <= START_TIMEOUT
        or log_path(run.id) is not None  # it was started on this host
    ):
        return reaper.reap(run)
    if (
        run.approval_requirement
        and clock.age(run.created_at) > run.approval_requirement.lifetime
    ):
        return _expire(run)
    return try_release(run)


def _expire(run: RunRecord) -> RunRecord:
    change = runs.Change(
        outcome="expired",
        reason="The run was not approved in time.",
        only_if={"waiting_until": run.waiting_until},
    )
    return runs.move(run.id, to=RunState.EXPIRED, expected=_NOT_STARTED, change=change)


def try_release(run: RunRecord) -> RunRecord:
    """Release a run if plan, policy and approvals allow it now; return the updated run.

    Raises `PlanChanged` or `StaleCode` when its plan has changed, which ends the run, and
    any other refusal, which does not.
    """
    match decide_now(run):
        case Allowed() as permit:
            return _release_if_open(run, permit)
        case NeedsApproval():
            return run
        case Denied(error=error):
            raise error


def release_with(run: RunRecord, decision: Allowed | NeedsApproval) -> RunRecord:
    """Release a run that was just approved, if that was the last required approval.

    `decision` was made about its plan right before.
    """
    if isinstance(decision, NeedsApproval):
        decision = decision.approved(run.given, requester=run.requester)
    if isinstance(decision, NeedsApproval):
        return run
    try:
        return _release_if_open(run, decision)
    except InvalidState:
        return find_run(run.id)  # a concurrent approval has released it


def decide_now(run: RunRecord) -> Allowed | NeedsApproval | Denied:
    """Decide about a run by its current plan; if the plan has changed, the run is stale."""
    decision: Allowed | NeedsApproval | Denied
    try:
        decision = reevaluate(run)
    except UnknownTarget as error:
        decision = Denied(error=PlanChanged(f"The plan no longer exists: {error}"))
    if isinstance(decision, Denied) and isinstance(decision.error, PlanChanged | StaleCode):
        return Denied(error=_void(run, decision.error))
    return decision


def is_outdated(run: RunRecord) -> bool:
    """Whether a run waits for the approval of a plan or a build that is not current."""
    if run.state is not RunState.AWAITING_APPROVAL:
        return False
    try:
        current, _ = plan_for_decision(request_of(run), run.actor_kind)
    except UnknownTarget:
        return True
    return sources.is_other_build(run.build) or not same_plan(
        current.fingerprint, run.fingerprint
    )


def outdated_run(database: str) -> RunRecord | None:
    """Return the run that waits for the approval of an outdated plan, if there is one."""
    waiting = active_runs().get(database)
    return waiting if waiting is not None and is_outdated(waiting) else None


def supersede(run: RunRecord) -> None:
    """End a run that waits for the approval of an outdated plan, in favor of a new run."""
    with suppress(InvalidState):  # another process has just ended or released it
        _void(run, PlanChanged(), expected={RunState.AWAITING_APPROVAL})


def _void(
    run: RunRecord, error: RouteError, *, expected: Collection[RunState] = _NOT_STARTED
) -> RouteError:
    """End a run whose plan has changed; return the error to raise."""
    cause = StepError(type=type(error).__name__, message=error.message)
    change = runs.Change(outcome=error.code, error=cause)
    runs.move(run.id, to=RunState.STALE, expected=expected, change=change)
    facts = {**error.facts, "run": run.id}
    return type(error)(
        f"The plan of run {run.id} has changed: the run is stale, and its approvals are "
        "void.",
        hint="Review the current plan, and request a new run.",
        **facts,
    )


def _release_if_open(run: RunRecord, permit: Allowed) -> RunRecord:
    """Queue a run, or let it wait for its scheduled start, and start its process.

    If it may not start now and no process can wait for that, a later read releases it. Of
    several concurrent callers, one succeeds; the others get `InvalidState`. Also raises
    `LaunchFailed`.
    """
    get_launcher()  # a misconfigured launcher is reported before the run is queued
    waiting: WaitInfo | None = None
    if run.state is not RunState.QUEUED:  # else its process checks the schedule
        try:
            waiting = required_wait(schedule_of_run(run), waits=True)
        except WindowClosed:
            return find_run(run.id)
    queued = _queue_to_resume(run, waiting) if run.resumes else _queue(run, waiting)
    launch(permit, queued)
    return queued


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
    requirement = run.approval_requirement
    approvals = (
        valid_approvals(requirement, run.given, requester=run.requester)
        if requirement
        else ()
    )
    change = runs.Change(
        reason="The process of the run was never started; starting it now."
        if run.state is RunState.QUEUED
        else "",
        waiting_reason=waiting.reason if waiting else "",
        waiting_until=waiting.until if waiting else "",
        waiting_facts=waiting.facts if waiting else {"launches": launches},
        entry_facts={
            "fingerprint": run.fingerprint,
            "approved_by": [[vote.by.kind, vote.by.name] for vote in approvals],
        },
        # Of two concurrent restarts, one succeeds.
        only_if={"heartbeat_at": run.heartbeat_at} if launches > 1 else {},
    )
    to = RunState.WAITING if waiting else RunState.QUEUED
    return runs.move(run.id, to=to, expected={run.state}, change=change)
