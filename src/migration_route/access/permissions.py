"""May they?"""

from __future__ import annotations

from migration_route.access.actor import Actor
from migration_route.errors import Forbidden, Unauthenticated
from migration_route.vocabulary import PEOPLE_ONLY, ActorKind, Scope

# Whoever may do something to a plan may read it, and watch what becomes of it.
_IMPLIED: dict[Scope, frozenset[Scope]] = {
    Scope.READ: frozenset(),
    Scope.PLAN: frozenset({Scope.READ}),
    Scope.REHEARSE: frozenset({Scope.PLAN, Scope.READ}),
    Scope.APPLY: frozenset({Scope.PLAN, Scope.READ}),
    Scope.REVERSE: frozenset({Scope.PLAN, Scope.READ}),
    Scope.FAKE: frozenset({Scope.PLAN, Scope.READ}),
    Scope.OPERATE: frozenset({Scope.READ}),
    Scope.APPROVE: frozenset({Scope.PLAN, Scope.READ}),
    Scope.FORCE: frozenset({Scope.READ}),
    Scope.RESOLVE: frozenset({Scope.PLAN, Scope.READ}),
}

_MACHINES = frozenset({ActorKind.TOKEN, ActorKind.PERMIT})


def rights_of(actor: Actor) -> frozenset[Scope]:
    """Return everything the actor may do, on the databases that they may touch."""
    rights = actor.scopes.union(*(_IMPLIED[scope] for scope in actor.scopes))
    return rights - PEOPLE_ONLY if actor.kind in _MACHINES else rights


def may(actor: Actor, scope: Scope, database: str | None = None) -> bool:
    """Tell whether the actor may do this, on this database where one is named."""
    if actor.flaw is not None or scope not in rights_of(actor):
        return False
    return database is None or actor.databases is None or database in actor.databases


def authorise(actor: Actor, *scopes: Scope, database: str | None = None) -> None:
    """Let the actor pass who may do all of this.

    Raises `Unauthenticated` or `Forbidden`, which name what is missing.
    """
    if actor.flaw is not None:
        raise actor.flaw
    if actor.kind is ActorKind.ANONYMOUS:
        raise Unauthenticated
    for scope in scopes:
        if may(actor, scope, database):
            continue
        if scope in rights_of(actor):
            raise Forbidden(f"{actor.name!r} may not touch the database {database!r}.")
        raise Forbidden(
            f"{actor.name!r} lacks the right {scope.value!r}.", needs=scope.value
        )
