"""End the sessions that are in the way of a run: other people's work, so only on request,
only where the settings allow it, and never without a line on the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.conf import route_settings
from migration_route.connecting import PATIENCE, new_connection
from migration_route.errors import BlockersProtected, InvalidRequest, NotInThisState
from migration_route.ledger import entries
from migration_route.ledger.records import RunRecord
from migration_route.operations.recording import on_record
from migration_route.operations.runs import show
from migration_route.planning import sources
from migration_route.vendors import vendor_of
from migration_route.vendors.interface import Blocker, Contention, Wanted
from migration_route.vocabulary import Action, Scope, WaitingReason

_OWN = "migration-route"  # what the sessions of runs are called


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of the sessions that were named as blockers of a run."""

    run: str
    ended: tuple[dict[str, Any], ...]  # as the run has shown them
    not_ended: tuple[tuple[int, str], ...]  # a pid, and why


def end_blockers(run: str, actor: Actor, *, reason: str) -> Ended:
    """End those sessions that the run shows as being in its way, and that still are.

    Raises `BlockersProtected` where that is not switched on, `NotInThisState` when the
    run does not wait for locks.
    """
    with on_record(actor, "end-blockers", run=run):
        found = show(run, actor)
        authorise(actor, Scope.FORCE, database=found.database)
        if not route_settings().database(found.database).end_blockers:
            raise BlockersProtected(
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
            raise NotInThisState(
                f"Run {found.id} is {found.state} and waits for nobody's locks.",
                run=found.id,
            )
        ended = _end(found, contention)
        _put_on_record(found, ended, actor, reason)
        return ended


def _end(run: RunRecord, contention: Contention) -> Ended:
    connection = new_connection(run.database)
    try:
        wanted = tuple(
            Wanted(table=table, mode=mode) for table, mode in run.waiting_facts["wanted"]
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
        return Ended(run=run.id, ended=tuple(ended), not_ended=tuple(not_ended))
    finally:
        connection.close()


def _end_one(
    connection: BaseDatabaseWrapper, contention: Contention, blocker: Blocker | None
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


def _put_on_record(run: RunRecord, ended: Ended, actor: Actor, reason: str) -> None:
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
