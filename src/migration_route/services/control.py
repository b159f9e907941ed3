"""Let a run wait before its next step, and let it go on.

Stop a run: before its next step, or in the middle of the one that is under way.

End the sessions that are in the way of a run: other people's work, so only on request,
only where the settings allow it, and never without a line on the ledger.
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

_NOT_BEGUN = frozenset({RunState.QUEUED, RunState.AWAITING_APPROVAL})
_BEGUN = frozenset({RunState.WAITING, RunState.RUNNING, RunState.HELD})


def cancel(run: str, actor: Actor, *, reason: str, force: bool = False) -> RunRecord:
    """Ask a run to stop: at once if it has not begun, else as soon as its worker can.

    The session that a lost run has left in the database is ended. With `force`, a right
    of its own, the worker is killed and its session ended, whoever answers. Raises
    `NotInThisState` when the run has ended.
    """
    with audited(actor, "cancel", run=run):
        found = show(run, actor)
        needed = Scope.FORCE if force else Scope.OPERATE
        if force or not may_withdraw(found, actor):
            authorise(actor, needed, database=found.database)
        change = runs.Change(
            action=Action.FORCE_REQUESTED if force else Action.CANCEL_REQUESTED,
            actor_kind=actor.kind,
            actor_name=actor.name,
            address=actor.address,
            credential=actor.credential_facts,
            reason=reason,
        )
        if found.state in _NOT_BEGUN or found.waits_to_begin:
            # It may begin at this very moment: then it is asked to stop instead.
            with suppress(InvalidState):
                unbegun = replace(change, outcome="cancelled")
                if found.waits_to_begin:
                    unbegun = replace(
                        unbegun, only_if={"waiting_reason__in": SCHEDULE_REASONS}
                    )
                expected = _NOT_BEGUN | {found.state}
                return runs.move(
                    run, to=RunState.CANCELLED, expected=expected, change=unbegun
                )
        if force:
            return reaper.force_stop(_ask(found, ControlRequest.FORCE, change))
        if found.state is RunState.CANCELLING:
            return found
        asked = _ask(found, ControlRequest.CANCEL, change)
        is_orphan = asked.waiting_reason == WaitingReason.ORPHAN_BACKEND
        return reaper.terminate_orphan(asked) if is_orphan else asked


def may_withdraw(run: RunRecord, actor: Actor) -> bool:
    """Tell whether the actor is who has asked for a run that waits for approval: they may
    take it back, whatever else they may do."""
    is_waiting = run.state is RunState.AWAITING_APPROVAL
    return is_waiting and run.requester == actor.identity


def _ask(found: RunRecord, word: ControlRequest, change: runs.Change) -> RunRecord:
    """Write down that the run is to stop, where its supervisor looks."""
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
        expected=_BEGUN
        | ({RunState.CANCELLING} if word is ControlRequest.FORCE else set()),
        change=replace(change, columns={"asked": word}),
    )


_OWN = "migration-route"  # what the sessions of runs are called


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminatedBlockers:
    """What became of the sessions that were named as blockers of a run."""

    run: str
    ended: tuple[dict[str, Any], ...]  # as the run has shown them
    not_ended: tuple[tuple[int, str], ...]  # a pid, and why


def terminate_blockers(run: str, actor: Actor, *, reason: str) -> TerminatedBlockers:
    """End those sessions that the run shows as being in its way, and that still are.

    Raises `BlockersProtected` where that is not switched on, `NotInThisState` when the
    run does not wait for locks.
    """
    with audited(actor, "end-blockers", run=run):
        found = show(run, actor)
        authorise(actor, Scope.FORCE, database=found.database)
        if not route_settings().database(found.database).end_blockers:
            raise TerminateBlockersDisabled(
                f"Ending other sessions is not switched on for {found.database!r}.",
                hint=f'MIGRATION_ROUTE["DATABASES"]["{found.database}"]["end_blockers"] = '
                "True allows it to people with the right 'force'. Or wait, or end them in "
                "the database.",
            )
        if not reason.strip():
            raise InvalidRequest(
                "Ending other people's sessions needs a reason.", hint="Say why."
            )
        contention = vendor_of(found.database).contention
        if found.waiting_reason != WaitingReason.BLOCKED or contention is None:
            raise InvalidState(
                f"Run {found.id} is {found.state} and waits for nobody's locks.",
                run=found.id,
            )
        ended = _end(found, contention)
        _put_on_record(found, ended, actor, reason)
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
            for blocker in contention.in_the_way(connection, wanted)
        }
        ended, not_ended = [], []
        for named in run.waiting_facts["blockers"]:
            blocker = now.get((named["pid"], named["begun"]))
            if (why := _end_one(connection, contention, blocker)) is None:
                ended.append(named)
            else:
                not_ended.append((named["pid"], why))
        return TerminatedBlockers(
            run=run.id, ended=tuple(ended), not_ended=tuple(not_ended)
        )
    finally:
        connection.close()


def _end_one(
    connection: BaseDatabaseWrapper, contention: LockInspector, blocker: Blocker | None
) -> str | None:
    """End it; return why not."""
    if blocker is None:
        return "It is not in the way any more."
    if blocker.is_server:
        return "It belongs to the server itself, or to no session."
    if blocker.application.startswith(_OWN):
        return "It is a session of the migration route."
    if not blocker.certain:
        return "The database does not show whether it is in the way."
    try:
        was_told = contention.end(connection, blocker)
    except DatabaseError:
        return "The database does not allow it to this role."
    return None if was_told else "It had ended by itself."


def _put_on_record(
    run: RunRecord, ended: TerminatedBlockers, actor: Actor, reason: str
) -> None:
    entries.write(
        entries.Draft(
            action=Action.BLOCKERS_ENDED,
            actor_kind=actor.kind,
            actor_name=actor.name,
            address=actor.address,
            database=run.database,
            run=run.id,
            build=sources.build(),
            facts={
                "reason": reason,
                "credential": actor.credential_facts,
                "ended": list(ended.ended),
                "not_ended": [[pid, why] for pid, why in ended.not_ended],
            },
        ),
        patience=PATIENCE,
    )


_HOLDABLE = frozenset({RunState.QUEUED, RunState.WAITING, RunState.RUNNING})
_TRIES = 3


def pause(run: str, actor: Actor, *, reason: str) -> RunRecord:
    """Ask a run to wait before its next step; the step under way is carried to its end.

    Raises `NotInThisState` when it has ended, or is about to.
    """
    with audited(actor, "hold", run=run):
        found = show(run, actor)
        authorise(actor, Scope.OPERATE, database=found.database)
        if (found.state is RunState.HELD and not _goes_on_by_itself(found)) or _is_asked(
            found
        ):
            return found
        change = _change(Action.HOLD_REQUESTED, actor, reason)
        if found.state is RunState.RUNNING and control.request_control_in_spool(
            run, ControlRequest.HOLD, change
        ):
            return find_run(run)
        expected = _HOLDABLE | {RunState.HELD}  # also one that waits for a good moment
        return control.request_control(
            run, ControlRequest.HOLD, expected=expected, change=change
        )


def unpause(run: str, actor: Actor, *, reason: str, force: bool = False) -> RunRecord:
    """Let a run go on that is held, or take back a hold that has not come about yet.

    One that waits for a good moment or for its opening looks again at once. With `force`,
    a right of its own that people alone have, it goes on in spite of the signals that hold
    it now, or begins in spite of its windows, of a freeze and of the time that was asked
    for; that is on the ledger. Raises `NotInThisState` when nobody holds it.
    """
    with audited(actor, "resume", run=run):
        found = show(run, actor)
        needed = Scope.FORCE if force else Scope.OPERATE
        authorise(actor, needed, database=found.database)
        if force:
            return _go_on(found, actor, reason)
        change = replace(_change(Action.RESUMED, actor, reason), columns={"asked": ""})
        for _ in range(_TRIES):  # the hold may come about in this moment
            with suppress(InvalidState):
                if found.state is RunState.HELD:
                    return runs.move(
                        run, to=RunState.RUNNING, expected={RunState.HELD}, change=change
                    )
                if _is_asked(found):
                    return _take_back(run, change)
                if found.waits_to_begin:
                    return _look_again(found, change)
            found = find_run(run)
        raise InvalidState(
            f"Run {run} is {found.state}, and nobody holds it.", run=run, state=found.state
        )


def _go_on(found: RunRecord, actor: Actor, reason: str) -> RunRecord:
    """Let a run go on in spite of the signals that hold it, and of no others, or in spite
    of its windows."""
    if found.waits_to_begin or _is_shut_out(found):
        return _open(found, actor, reason)
    if not _waits_for_health(found):
        raise InvalidState(
            f"Run {found.id} is {found.state}, and no signal and no window holds it.",
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
        columns={"asked": ControlRequest.GO_ON},
        only_if={"waiting_reason": WaitingReason.HEALTH},
        vouching={"signals": signals},
    )
    return runs.move(found.id, to=RunState.RUNNING, expected={RunState.HELD}, change=change)


def _open(found: RunRecord, actor: Actor, reason: str) -> RunRecord:
    """Let a run begin, or go on, in spite of its windows, a freeze and its time."""
    change = replace(
        _change(Action.OPENING_OVERRIDDEN, actor, reason),
        columns={"in_spite": True},
        only_if={"waiting_reason": found.waiting_reason},
        vouching={
            "waiting_reason": found.waiting_reason,
            "until": found.waiting_until,
            "why": found.waiting_facts.get("why", ""),
        },
    )
    if found.state is RunState.HELD:
        held = replace(change, columns={"in_spite": True, "asked": ControlRequest.GO_ON})
        return runs.move(
            found.id, to=RunState.RUNNING, expected={RunState.HELD}, change=held
        )
    return _look_again(found, change)


def _look_again(found: RunRecord, change: runs.Change) -> RunRecord:
    """Let a run that waits for its opening look now: a new process reads the settings."""
    now = replace(
        change,
        waiting_reason=found.waiting_reason,
        waiting_until=clock.now(),
        waiting_facts=found.waiting_facts,
    )
    waiting = RunState.WAITING
    looking = runs.move(found.id, to=waiting, expected={waiting}, change=now)
    if not looking.carrier and (start := relauncher()):
        start(looking)
    return looking


def _goes_on_by_itself(found: RunRecord) -> bool:
    return _waits_for_health(found) or _is_shut_out(found)


def _is_shut_out(found: RunRecord) -> bool:
    """Tell whether the window closed between two of its steps."""
    return found.state is RunState.HELD and found.waiting_reason == WaitingReason.WINDOW


def _waits_for_health(found: RunRecord) -> bool:
    return found.state is RunState.HELD and found.waiting_reason == WaitingReason.HEALTH


def _is_asked(found: RunRecord) -> bool:
    waits = found.state in _HOLDABLE or _goes_on_by_itself(found)
    return waits and found.asked == ControlRequest.HOLD


def _take_back(run: str, change: runs.Change) -> RunRecord:
    if control.withdraw_control_in_spool(run, ControlRequest.HOLD, change):
        return find_run(run)
    still = replace(change, only_if={"asked": ControlRequest.HOLD})
    return control.request_control(run, None, expected=_HOLDABLE, change=still)


def _change(action: Action, actor: Actor, reason: str) -> runs.Change:
    return runs.Change(
        action=action,
        actor_kind=actor.kind,
        actor_name=actor.name,
        address=actor.address,
        credential=actor.credential_facts,
        reason=reason,
    )
