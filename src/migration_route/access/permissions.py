"""May they?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

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


def rights_of(actor: Actor, database: str | None = None) -> frozenset[Scope]:
    """Return what the actor may do on a database, or, where none is named, on any of
    those that they may touch."""
    on = actor.scopes_on
    more = on.values() if database is None else [on.get(database, frozenset())]
    granted = actor.scopes.union(*more)
    rights = granted.union(*(_IMPLIED[scope] for scope in granted))
    return rights - PEOPLE_ONLY if actor.kind in _MACHINES else rights


def may(actor: Actor, scope: Scope, database: str | None = None) -> bool:
    """Tell whether the actor may do this, on this database where one is named."""
    if actor.flaw is not None or scope not in rights_of(actor, database):
        return False
    return database is None or actor.databases is None or database in actor.databases


def readable(actor: Actor, aliases: Iterable[str]) -> frozenset[str] | None:
    """Return the databases that the actor may read, of these; None: no limit is set."""
    if Scope.READ in rights_of(replace(actor, scopes_on={})):
        return actor.databases
    return frozenset(alias for alias in aliases if may(actor, Scope.READ, alias))


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
        if scope in rights_of(actor, database):
            raise Forbidden(f"{actor.name!r} may not touch the database {database!r}.")
        where = f" on the database {database!r}" if scope in rights_of(actor) else ""
        raise Forbidden(
            f"{actor.name!r} lacks the right {scope.value!r}{where}.", needs=scope.value
        )
