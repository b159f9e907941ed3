"""Say that what a run left midway has been put right."""

from __future__ import annotations

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.errors import InvalidRequest
from migration_route.ledger import runs
from migration_route.ledger.records import RunRecord
from migration_route.operations.recording import on_record
from migration_route.operations.runs import show
from migration_route.vocabulary import Action, RunState, Scope


def resolve(run: str, actor: Actor, *, reason: str) -> RunRecord:
    """Open a database again that a run had left in between.

    Nothing is written to the database itself: the recorder stays as it is, and the next
    plan starts from what it says. Raises `NotInThisState` unless the run is `partial`.
    """
    with on_record(actor, "resolve", run=run):
        found = show(run, actor)
        authorise(actor, Scope.RESOLVE, database=found.database)
        if not reason.strip():
            raise InvalidRequest(
                "A resolution needs a reason.", hint="Say what was put right, and how."
            )
        return runs.move(
            run,
            to=RunState.RECONCILED,
            expected={RunState.PARTIAL},
            change=runs.Change(
                action=Action.RESOLVED,
                outcome="resolved",
                actor_kind=actor.kind,
                actor_name=actor.name,
                address=actor.address,
                reason=reason,
            ),
        )
