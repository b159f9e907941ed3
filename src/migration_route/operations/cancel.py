"""Stop a run: before its next step, or in the middle of the one that is under way."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.errors import NotInThisState
from migration_route.ledger import asking, runs
from migration_route.ledger.reading import find_run
from migration_route.ledger.records import RunRecord
from migration_route.operations.recording import on_record
from migration_route.operations.runs import show
from migration_route.running.recovery import ending
from migration_route.vocabulary import (
    OPENING_REASONS,
    Action,
    Asked,
    RunState,
    Scope,
    WaitingReason,
)

_NOT_BEGUN = frozenset({RunState.QUEUED, RunState.AWAITING_APPROVAL})
_BEGUN = frozenset({RunState.WAITING, RunState.RUNNING, RunState.HELD})


def cancel(run: str, actor: Actor, *, reason: str, force: bool = False) -> RunRecord:
    """Ask a run to stop: at once if it has not begun, else as soon as its worker can.

    The session that a lost run has left in the database is ended. With `force`, a right
    of its own, the worker is killed and its session ended, whoever answers. Raises
    `NotInThisState` when the run has ended.
    """
    with on_record(actor, "cancel", run=run):
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
            with suppress(NotInThisState):
                unbegun = replace(change, outcome="cancelled")
                if found.waits_to_begin:
                    unbegun = replace(
                        unbegun, only_if={"waiting_reason__in": OPENING_REASONS}
                    )
                expected = _NOT_BEGUN | {found.state}
                return runs.move(
                    run, to=RunState.CANCELLED, expected=expected, change=unbegun
                )
        if force:
            return ending.end_by_force(_ask(found, Asked.FORCE, change))
        if found.state is RunState.CANCELLING:
            return found
        asked = _ask(found, Asked.CANCEL, change)
        is_orphan = asked.waiting_reason == WaitingReason.ORPHAN_BACKEND
        return ending.end_orphan(asked) if is_orphan else asked


def may_withdraw(run: RunRecord, actor: Actor) -> bool:
    """Tell whether the actor is who has asked for a run that waits for approval: they may
    take it back, whatever else they may do."""
    is_waiting = run.state is RunState.AWAITING_APPROVAL
    return is_waiting and run.requester == actor.identity


def _ask(found: RunRecord, word: Asked, change: runs.Change) -> RunRecord:
    """Write down that the run is to stop, where its supervisor looks."""
    if found.state is RunState.LOST:
        return asking.ask(found.id, word, expected={RunState.LOST}, change=change)
    is_at_work = found.state in {RunState.RUNNING, RunState.CANCELLING}
    if is_at_work and asking.ask_beside(found.id, word, change):
        return find_run(found.id)
    return runs.move(
        found.id,
        to=RunState.CANCELLING,
        expected=_BEGUN | ({RunState.CANCELLING} if word is Asked.FORCE else set()),
        change=replace(change, columns={"asked": word}),
    )
