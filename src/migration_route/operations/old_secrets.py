"""Is the old secret of a token still in use somewhere?

What changes something names its secret on the ledger anyway. What only reads leaves no
line there; so for an old secret, which is about to be taken out of the settings, there is
one line an hour, in each process.
"""

from __future__ import annotations

from migration_route.access.actor import Actor
from migration_route.ledger.entries import Draft, note
from migration_route.operations.strangers import Attempt, Strangers
from migration_route.planning import sources
from migration_route.vocabulary import Action

_HOUR = 3600.0
seen = Strangers(window=_HOUR)


def note_use(actor: Actor, verb: str) -> None:
    """Put a line on the ledger when the actor has come with an old secret."""
    credential = actor.credential
    if credential is None or not credential.is_old or actor.flaw is not None:
        return
    attempt = Attempt(kind=actor.kind, address="", verb="", code=credential.id)
    if seen.admit(attempt) is None:
        return
    note(
        Draft(
            action=Action.OLD_SECRET_USED,
            actor_kind=actor.kind,
            actor_name=actor.name,
            address=actor.address,
            build=sources.build(),
            facts={"verb": verb, "credential": actor.credential_facts},
        )
    )
