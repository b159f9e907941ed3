"""Cancels, pauses and resumes runs, and terminates the sessions that block them.

Terminating sessions of other users happens only on request, only if the settings allow it,
and always with a ledger entry.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.access.actors import Actor, authorise
from migration_route.conf import route_settings
from migration_route.conf.databases import PATIENCE, private_connection
from migration_route.core import clock
from migration_route.core.enums import (
    SCHEDULE_REASONS,
    Action,
    ControlRequest,
    RunState,
    Scope,
    WaitingReason,
)
from migration_route.core.errors import (
    InvalidRequest,
    InvalidState,
    TerminateBlockersDisabled,
)
from migration_route.core.values import SignalState
from migration_route.execution.launchers import relauncher
from migration_route.execution.recovery import reaper
from migration_route.ledger import control, entries, runs
from migration_route.ledger.queries import find_run
from migration_route.ledger.records import RunRecord
from migration_route.planning import sources
from migration_route.services.audit import audited
from migration_route.services.runs import show
from migration_route.vendors import vendor_of
from migration_route.vendors.base import Blocker, LockInspector, TableLockRequest

_NOT_STARTED = frozenset({RunState.QUEUED, RunState.AWAITING_APPROVAL})
_STARTED = frozenset({RunState.WAITING, RunState.RUNNING, RunState.PAUSED})


def cancel(run: str, actor: Actor, *, reason: str, force: bool = False) -> RunRecord:
    """Cancel a run: immediately if it has not started, else as soon as its worker can stop.

    The session that a lost run left in the database is terminated. With `force`, which
    needs the permission `force`, the worker is killed and its session is terminated,
    whether or not the supervisor responds. Raises `InvalidState` when the run has ended.
    """
    with audited(actor, "cancel", run=run):
        found = show(run, actor)
        needed = Scope.FORCE if force else Scope.OPERATE
        if force or not may_withdraw(found, actor):
            authorise(actor, needed, database=found.database)
        action = Action.FORCE_REQUESTED if force else Action.CANCEL_REQUESTED
        change = _change(action, actor, reason)
        if found.state in _NOT_STARTED or found.waits_to_begin:
            # If the run starts meanwhile, it gets a control request instead.
            with suppress(InvalidState):
                cancelled = replace(change, outcome="cancelled")
                if found.waits_to_begin:
                    cancelled = replace(
                        cancelled, only_if={"waiting_reason__in": SCHEDULE_REASONS}
                    )
                expected = _NOT_STARTED | {found.state}
                return runs.move(
                    run, to=RunState.CANCELLED, expected=expected, change=cancelled
                )
        if force:
            return reaper.force_stop(_request_stop(found, ControlRequest.FORCE, change))
        if found.state is RunState.CANCELLING:
            return found
        stopping = _request_stop(found, ControlRequest.CANCEL, change)
        is_orphan = stopping.waiting_reason == WaitingReason.ORPHANED_SESSION
        return reaper.terminate_orphan(stopping) if is_orphan else stopping


def may_withdraw(run: RunRecord, actor: Actor) -> bool:
    """Whether the actor requested the run and it still waits for approval.

    The requester can withdraw such a run without any further permission.
    """
    is_waiting = run.state is RunState.AWAITING_APPROVAL
    return is_waiting and run.requester == actor.identity


def _request_stop(found: RunRecord, word: ControlRequest, change: runs.Change) -> RunRecord:
    """Store the control request where the supervisor of the run polls it."""
    if found.state is RunState.LOST:
        return control.request_control(
            found.id, word, expected={RunState.LOST}, change=change
        )
    is_at_work = found.state in {RunState.RUNNING, RunState.CANCELLING}
    if is_at_work and control.request_control_in_spool(found.id, word, change):
        return find_run(found.id)
    return runs.move(
        found.id,
        to=RunState.CANCELLING,
        expected=_STARTED
        | ({RunState.CANCELLING} if word is ControlRequest.FORCE else set()),
        change=replace(change, columns={"control_request": word}),
    )


_OWN_SESSIONS = "migration-route"  # prefix of the application name of a run's session


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminatedBlockers:
    """The result for each session that the run showed as a blocker."""

    run: str
    terminated: tuple[dict[str, Any], ...]  # as the run showed them
    not_terminated: tuple[tuple[int, str], ...]  # a pid, and why


def terminate_blockers(run: str, actor: Actor, *, reason: str) -> TerminatedBlockers:
    """End the sessions that the run shows as blockers, if they still block it.

    Raises `TerminateBlockersDisabled` unless the settings allow it, `InvalidState` when the
    run does not wait for locks.
    """
    with audited(actor, "terminate-blockers", run=run):
        found = show(run, actor)
        authorise(actor, Scope.FORCE, database=found.database)
        if not route_settings().database(found.database).allow_terminate_blockers:
            raise TerminateBlockersDisabled(
                f"Ending other sessions is disabled for {found.database!r}.",
                hint=f'Set MIGRATION_ROUTE["DATABASES"]["{found.database}"]'
                '["allow_terminate_blockers"] = True to allow it for users with the '
                "permission 'force'. Or wait, or end the sessions in the database.",
            )
        if not reason.strip():
            raise InvalidRequest(
                "Ending other sessions needs a reason.", hint="State why they must end."
            )
        contention = vendor_of(found.database).contention
        if found.waiting_reason != WaitingReason.BLOCKED or contention is None:
            raise InvalidState(
                f"Run {found.id} is {found.state} and does not wait for a lock.",
                run=found.id,
            )
        ended = _end(found, contention)
        _record(found, ended, actor, reason)
        return ended


def _end(run: RunRecord, contention: LockInspector) -> TerminatedBlockers:
    connection = private_connection(run.database)
    try:
        wanted = tuple(
            TableLockRequest(table=table, mode=mode)
            for table, mode in run.waiting_facts["wanted"]
        )
        now = {
            (blocker.pid, blocker.begun): blocker
            for blocker in contention.blockers_of(connection, wanted)
        }
        terminated, not_terminated = [], []
        for named in run.waiting_facts["blockers"]:
            blocker = now.get((named["pid"], named["begun"]))
            if (why := _end_one(connection, contention, blocker)) is None:
                terminated.append(named)
            else:
                not_terminated.append((named["pid"], why))
        return TerminatedBlockers(
            run=run.id, terminated=tuple(terminated), not_terminated=tuple(not_terminated)
        )
    finally:
        connection.close()


def _end_one(
    connection: BaseDatabaseWrapper, contention: LockInspector, blocker: Blocker | None
) -> str | None:
    """End a session; return the reason if it was not ended."""
    if blocker is None:
        return "It no longer blocks the run."
    if blocker.is_server:
        return "It is a process of the server, or has no session."
    if blocker.application.startswith(_OWN_SESSIONS):
        return "It is a session of migration_route."
    if not blocker.certain:
        return "The database does not show whether it blocks the run."
    try:
        was_ended = contention.end(connection, blocker)
    except DatabaseError:
        return "The database role is not allowed to end it."
    return None if was_ended else "It had already ended."


def _record(run: RunRecord, ended: TerminatedBlockers, actor: Actor, reason: str) -> None:
    entries.write(
        entries.Draft(
            action=Action.BLOCKERS_TERMINATED,
            actor_kind=actor.kind,
            actor_name=actor.name,
            address=actor.address,
            database=run.database,
            run=run.id,
            build=sources.build(),
            facts={
                "reason": reason,
                "credential": actor.credential_facts,
                "terminated": list(ended.terminated),
                "not_terminated": [[pid, why] for pid, why in ended.not_terminated],
            },
        ),
        patience=PATIENCE,
    )


_PAUSABLE = frozenset({RunState.QUEUED, RunState.WAITING, RunState.RUNNING})
_TRIES = 3


def pause(run: str, actor: Actor, *, reason: str) -> RunRecord:
    """Pause a run before its next step; the current step is completed.

    Raises `InvalidState` when the run has ended, or is ending.
    """
    with audited(actor, "pause", run=run):
        found = show(run, actor)
        authorise(actor, Scope.OPERATE, database=found.database)
        if (
            found.state is RunState.PAUSED and not _resumes_automatically(found)
        ) or _has_pause_request(found):
            return found
        change = _change(Action.PAUSE_REQUESTED, actor, reason)
        if found.state is RunState.RUNNING and control.request_control_in_spool(
            run, ControlRequest.PAUSE, change
        ):
            return find_run(run)
        # A run that is paused by a health check can be paused by a user as well.
        expected = _PAUSABLE | {RunState.PAUSED}
        return control.request_control(
            run, ControlRequest.PAUSE, expected=expected, change=change
        )


def resume(run: str, actor: Actor, *, reason: str, force: bool = False) -> RunRecord:
    """Resume a paused run, or withdraw a pause request that has not taken effect.

    A run that waits for a health check or its scheduled start checks again immediately.
    With `force`, a permission that only users can have, the run continues despite the
    health signals that pause it now, or starts despite its windows, a freeze and the
    requested start; the override is on the ledger. Raises `InvalidState` when the run is
    not paused.
    """
    with audited(actor, "resume", run=run):
        found = show(run, actor)
        needed = Scope.FORCE if force else Scope.OPERATE
        authorise(actor, needed, database=found.database)
        if force:
            return _override_pause(found, actor, reason)
        change = replace(
            _change(Action.RESUMED, actor, reason), columns={"control_request": ""}
        )
        for _ in range(_TRIES):  # a pause may take effect meanwhile
            with suppress(InvalidState):
                if found.state is RunState.PAUSED:
                    return runs.move(
                        run, to=RunState.RUNNING, expected={RunState.PAUSED}, change=change
                    )
                if _has_pause_request(found):
                    return _withdraw_pause(run, change)
                if found.waits_to_begin:
                    return _recheck_schedule(found, change)
            found = find_run(run)
        raise InvalidState(
            f"Run {run} is {found.state} and not paused.", run=run, state=found.state
        )


def _override_pause(found: RunRecord, actor: Actor, reason: str) -> RunRecord:
    """Continue a run despite its windows, or despite the health signals that pause it now.

    Signals that stop the run later are not overridden.
    """
    if found.waits_to_begin or _is_outside_window(found):
        return _override_schedule(found, actor, reason)
    if not _waits_for_health(found):
        raise InvalidState(
            f"Run {found.id} is {found.state}, and no health signal or window blocks it.",
            run=found.id,
            state=found.state,
        )
    signals = [
        signal
        for signal in found.waiting_facts.get("signals", ())
        if signal["state"] == SignalState.STOP
    ]
    change = replace(
        _change(Action.HEALTH_OVERRIDDEN, actor, reason),
        columns={"control_request": ControlRequest.OVERRIDE},
        only_if={"waiting_reason": WaitingReason.HEALTH},
        entry_facts={"signals": signals},
    )
    return runs.move(
        found.id, to=RunState.RUNNING, expected={RunState.PAUSED}, change=change
    )


def _override_schedule(found: RunRecord, actor: Actor, reason: str) -> RunRecord:
    """Start or continue a run despite its windows, a freeze and the requested start."""
    change = replace(
        _change(Action.SCHEDULE_OVERRIDDEN, actor, reason),
        columns={"override_schedule": True},
        only_if={"waiting_reason": found.waiting_reason},
        entry_facts={
            "waiting_reason": found.waiting_reason,
            "until": found.waiting_until,
            "why": found.waiting_facts.get("why", ""),
        },
    )
    if found.state is RunState.PAUSED:
        resumed = replace(
            change,
            columns={"override_schedule": True, "control_request": ControlRequest.OVERRIDE},
        )
        return runs.move(
            found.id, to=RunState.RUNNING, expected={RunState.PAUSED}, change=resumed
        )
    return _recheck_schedule(found, change)


def _recheck_schedule(found: RunRecord, change: runs.Change) -> RunRecord:
    """Make a run that waits for its scheduled start check the schedule now.

    An unclaimed run gets a new process, which reads the current settings.
    """
    now = replace(
        change,
        waiting_reason=found.waiting_reason,
        waiting_until=clock.now(),
        waiting_facts=found.waiting_facts,
    )
    waiting = RunState.WAITING
    checking = runs.move(found.id, to=waiting, expected={waiting}, change=now)
    if not checking.claimed_by and (start := relauncher()):
        start(checking)
    return checking


def _resumes_automatically(found: RunRecord) -> bool:
    return _waits_for_health(found) or _is_outside_window(found)


def _is_outside_window(found: RunRecord) -> bool:
    """Whether the window closed between two steps of the run."""
    return found.state is RunState.PAUSED and found.waiting_reason == WaitingReason.WINDOW


def _waits_for_health(found: RunRecord) -> bool:
    return found.state is RunState.PAUSED and found.waiting_reason == WaitingReason.HEALTH


def _has_pause_request(found: RunRecord) -> bool:
    waits = found.state in _PAUSABLE or _resumes_automatically(found)
    return waits and found.control_request == ControlRequest.PAUSE


def _withdraw_pause(run: str, change: runs.Change) -> RunRecord:
    if control.withdraw_control_in_spool(run, ControlRequest.PAUSE, change):
        return find_run(run)
    withdrawn = replace(change, only_if={"control_request": ControlRequest.PAUSE})
    return control.request_control(run, None, expected=_PAUSABLE, change=withdrawn)


def _change(action: Action, actor: Actor, reason: str) -> runs.Change:
    return runs.Change(
        action=action,
        actor_kind=actor.kind,
        actor_name=actor.name,
        address=actor.address,
        credential=actor.credential_facts,
        reason=reason,
    )
