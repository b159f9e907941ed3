"""Stop a run before its next step."""

from __future__ import annotations

from django.db import OperationalError

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.errors import DatabaseUnavailable
from migration_route.ledger import runs
from migration_route.ledger.records import RunRecord
from migration_route.operations.recording import on_record
from migration_route.operations.runs import show
from migration_route.vocabulary import Action, RunState, Scope


def cancel(run: str, actor: Actor, *, reason: str) -> RunRecord:
    """Ask a run to stop: at once if it has not begun, else before its next step.

    Raises `NotInThisState` when it has ended.
    """
    with on_record(actor, "cancel", run=run):
        found = show(run, actor)
        authorise(actor, Scope.OPERATE, database=found.database)
        if found.state is RunState.CANCELLING:
            return found
        begun = found.state not in {RunState.QUEUED, RunState.AWAITING_APPROVAL}
        try:
            return runs.move(
                run,
                to=RunState.CANCELLING if begun else RunState.CANCELLED,
                expected={RunState.WAITING, RunState.RUNNING, RunState.HELD}
                if begun
                else {RunState.QUEUED, RunState.AWAITING_APPROVAL},
                change=runs.Change(
                    action=Action.CANCEL_REQUESTED,
                    outcome=None if begun else "cancelled",
                    actor_kind=actor.kind,
                    actor_name=actor.name,
                    address=actor.address,
                    reason=reason,
                ),
            )
        except OperationalError as error:
            raise DatabaseUnavailable(
                "The ledger cannot be written while a migration holds its database.",
                hint="Ask again: between two steps it can.",
            ) from error
