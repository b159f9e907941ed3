"""Who asks?

Why may a machine not in, besides what every caller may be told?

What has the project given to a person, and on which databases?

May they?
"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from migration_route.access.permits import ApplyPermit
from migration_route.conf import route_settings
from migration_route.conf.databases import Target, all_aliases, find_target
from migration_route.core.enums import PEOPLE_ONLY, ActorKind, Scope
from migration_route.core.errors import Forbidden, RouteError, Unauthenticated
from migration_route.core.values import ActorRef


def _nothing(permission: str) -> bool:
    del permission
    return False


def _everything(permission: str) -> bool:
    del permission
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What a machine has shown, so that the ledger can name it: never a secret."""

    id: str  # of a token, the first digits of the digest of its secret
    is_old: bool = False  # the secret that another one is to take the place of
    claims: Mapping[str, str] = field(default_factory=dict)  # of an identity token

    def facts(self) -> dict[str, Any]:
        """Return what the ledger tells of it."""
        facts: dict[str, Any] = {"id": self.id}
        if self.is_old:
            facts["is_old"] = True
        if self.claims:
            facts["claims"] = dict(self.claims)
        return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asks, from where, and what they were given the right to do."""

    kind: ActorKind
    name: str = ""
    key: str = ""  # what stays when the name changes: a primary key, an account of a host
    address: str = ""
    scopes: frozenset[Scope] = frozenset()
    databases: frozenset[str] | None = None  # None: every database
    # What they may do besides, on single databases only, by alias.
    scopes_on: Mapping[str, frozenset[Scope]] = field(default_factory=dict, hash=False)
    flaw: RouteError | None = None  # why they are not who they say, if so
    # Have they a permission of the project, such as "shop.approve_migrations"?
    holds: Callable[[str], bool] = field(default=_nothing, repr=False, compare=False)
    credential: Credential | None = None  # of a machine
    permit: ApplyPermit | None = None  # the right to one plan that came along

    @property
    def identity(self) -> ActorRef:
        """Return who this is, as runs and approvals record it."""
        return ActorRef(kind=self.kind, name=self.name, key=self.key)

    @property
    def credential_facts(self) -> dict[str, Any]:
        """Return what the ledger tells of the credential; empty without one."""
        return self.credential.facts() if self.credential else {}


def shell_actor() -> Actor:
    """Return the actor of `manage.py`: who has a shell and the settings has every right.

    The account is that of the process. No variable of the environment decides it, and the
    host is no part of its key: an account is the same person on every host.
    """
    try:
        account = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        account = str(os.getuid())
    return Actor(
        kind=ActorKind.COMMAND,
        name=f"{account}@{socket.gethostname()}",
        key=account,
        scopes=frozenset(Scope),
        holds=_everything,
    )


class IssuerUnavailable(Unauthenticated):
    """The keys that identity tokens are checked with cannot be had."""

    code = "issuer_unavailable"
    http_status = 503
    exit_code = 8
    hint = "Ask again later, or use a token of the settings."


class WrongNetwork(Forbidden):
    """Nobody may do this from this address."""

    hint = "NETWORKS, or the token's own networks, name the addresses that may."


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """The rights of a person."""

    scopes: frozenset[Scope]  # on every database that they may touch
    scopes_on: Mapping[str, frozenset[Scope]]  # more of them, on single databases
    databases: frozenset[str] | None  # that they may touch; None: every one


def granted_to(user: Any) -> Grants:
    """Return what a member of staff may do. Raises `DatabaseError`.

    A back end that decides for objects is asked about each database as well, by a
    `Target`; Django's own says nothing about objects.
    """
    scopes = frozenset(scope for scope in Scope if user.has_perm(permission_of(scope)))
    targets = [find_target(alias) for alias in all_aliases()]
    on = {target.alias: _on(user, target, scopes) for target in targets}
    return Grants(
        scopes=scopes,
        scopes_on={alias: found for alias, found in on.items() if found},
        databases=databases_of(user),
    )


def _on(user: Any, target: Target, scopes: frozenset[Scope]) -> frozenset[Scope]:
    return frozenset(
        scope
        for scope in Scope
        if scope not in scopes and user.has_perm(permission_of(scope), target)
    )


def databases_of(user: Any) -> frozenset[str] | None:
    """Return the databases that the groups of `DATABASES` let the user touch."""
    kept = {
        alias: found.groups
        for alias, found in route_settings().databases.items()
        if found.groups is not None
    }
    if not kept or getattr(user, "is_superuser", False):
        return None
    groups = getattr(user, "groups", None)
    names = frozenset(() if groups is None else groups.values_list("name", flat=True))
    return frozenset(
        alias for alias in all_aliases() if alias not in kept or kept[alias] & names
    )


def permission_of(scope: Scope) -> str:
    """Return the permission that gives a person this right."""
    return f"migration_route.{'view_run' if scope is Scope.READ else scope.value}"


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
