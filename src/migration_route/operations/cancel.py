"""Stop a run before its next step."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.errors import NotInThisState
from migration_route.ledger import runs
from migration_route.ledger.records import RunRecord
from migration_route.operations.recording import on_record
from migration_route.operations.runs import show
from migration_route.vocabulary import Action, RunState, Scope

_NOT_BEGUN = frozenset({RunState.QUEUED, RunState.AWAITING_APPROVAL})
_BEGUN = frozenset({RunState.WAITING, RunState.RUNNING, RunState.HELD})


def cancel(run: str, actor: Actor, *, reason: str) -> RunRecord:
    """Ask a run to stop: at once if it has not begun, else before its next step.

    Raises `NotInThisState` when it has ended.
    """
    with on_record(actor, "cancel", run=run):
        found = show(run, actor)
        authorise(actor, Scope.OPERATE, database=found.database)
        if found.state is RunState.CANCELLING:
            return found
        change = runs.Change(
            action=Action.CANCEL_REQUESTED,
            actor_kind=actor.kind,
            actor_name=actor.name,
            address=actor.address,
            reason=reason,
        )
        if found.state in _NOT_BEGUN:
            # It may begin at this very moment: then it is asked to stop instead.
            with suppress(NotInThisState):
                unbegun = replace(change, outcome="cancelled")
                return runs.move(
                    run, to=RunState.CANCELLED, expected=_NOT_BEGUN, change=unbegun
                )
        if found.state is RunState.RUNNING and runs.ask_beside(run, change):
            return replace(found, state=RunState.CANCELLING)
        return runs.move(run, to=RunState.CANCELLING, expected=_BEGUN, change=change)
