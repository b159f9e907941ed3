"""Let a run wait before its next step, and let it go on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from migration_route import clock
from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.errors import NotInThisState
from migration_route.health import SignalState
from migration_route.ledger import asking, runs
from migration_route.ledger.reading import find_run
from migration_route.ledger.records import RunRecord
from migration_route.operations.recording import on_record
from migration_route.operations.runs import show
from migration_route.running.launchers import starts_again
from migration_route.vocabulary import Action, Asked, RunState, Scope, WaitingReason

_HOLDABLE = frozenset({RunState.QUEUED, RunState.WAITING, RunState.RUNNING})
_TRIES = 3


def hold(run: str, actor: Actor, *, reason: str) -> RunRecord:
    """Ask a run to wait before its next step; the step under way is carried to its end.

    Raises `NotInThisState` when it has ended, or is about to.
    """
    with on_record(actor, "hold", run=run):
        found = show(run, actor)
        authorise(actor, Scope.OPERATE, database=found.database)
        if (found.state is RunState.HELD and not _goes_on_by_itself(found)) or _is_asked(
            found
        ):
            return found
        change = _change(Action.HOLD_REQUESTED, actor, reason)
        if found.state is RunState.RUNNING and asking.ask_beside(run, Asked.HOLD, change):
            return find_run(run)
        expected = _HOLDABLE | {RunState.HELD}  # also one that waits for a good moment
        return asking.ask(run, Asked.HOLD, expected=expected, change=change)


def resume(run: str, actor: Actor, *, reason: str, force: bool = False) -> RunRecord:
    """Let a run go on that is held, or take back a hold that has not come about yet.

    One that waits for a good moment or for its opening looks again at once. With `force`,
    a right of its own that people alone have, it goes on in spite of the signals that hold
    it now, or begins in spite of its windows, of a freeze and of the time that was asked
    for; that is on the ledger. Raises `NotInThisState` when nobody holds it.
    """
    with on_record(actor, "resume", run=run):
        found = show(run, actor)
        needed = Scope.FORCE if force else Scope.OPERATE
        authorise(actor, needed, database=found.database)
        if force:
            return _go_on(found, actor, reason)
        change = replace(_change(Action.RESUMED, actor, reason), columns={"asked": ""})
        for _ in range(_TRIES):  # the hold may come about in this moment
            with suppress(NotInThisState):
                if found.state is RunState.HELD:
                    return runs.move(
                        run, to=RunState.RUNNING, expected={RunState.HELD}, change=change
                    )
                if _is_asked(found):
                    return _take_back(run, change)
                if found.waits_to_begin:
                    return _look_again(found, change)
            found = find_run(run)
        raise NotInThisState(
            f"Run {run} is {found.state}, and nobody holds it.", run=run, state=found.state
        )


def _go_on(found: RunRecord, actor: Actor, reason: str) -> RunRecord:
    """Let a run go on in spite of the signals that hold it, and of no others, or in spite
    of its windows."""
    if found.waits_to_begin or _is_shut_out(found):
        return _open(found, actor, reason)
    if not _waits_for_health(found):
        raise NotInThisState(
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
        columns={"asked": Asked.GO_ON},
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
        held = replace(change, columns={"in_spite": True, "asked": Asked.GO_ON})
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
    if not looking.carrier and (start := starts_again()):
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
    return waits and found.asked == Asked.HOLD


def _take_back(run: str, change: runs.Change) -> RunRecord:
    if asking.withdraw_beside(run, Asked.HOLD, change):
        return find_run(run)
    still = replace(change, only_if={"asked": Asked.HOLD})
    return asking.ask(run, None, expected=_HOLDABLE, change=still)


def _change(action: Action, actor: Actor, reason: str) -> runs.Change:
    return runs.Change(
        action=action,
        actor_kind=actor.kind,
        actor_name=actor.name,
        address=actor.address,
        credential=actor.credential_facts,
        reason=reason,
    )
