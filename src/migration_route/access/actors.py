"""Actors, the permissions that they have on each database, and the check of them."""

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
from migration_route.core.enums import USER_ONLY_SCOPES, ActorKind, Scope
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
    """The identification of a machine's credential for the ledger; never a secret."""

    id: str  # of a token, the first digits of the digest of its secret
    is_old: bool = False  # the previous secret, which another one replaces
    claims: Mapping[str, str] = field(default_factory=dict)  # of an identity token

    def facts(self) -> dict[str, Any]:
        """Return the facts for the ledger."""
        facts: dict[str, Any] = {"id": self.id}
        if self.is_old:
            facts["is_old"] = True
        if self.claims:
            facts["claims"] = dict(self.claims)
        return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The user or machine that makes a request, its address and its permissions."""

    kind: ActorKind
    name: str = ""
    key: str = ""  # survives a rename: a primary key, or an account of a host
    address: str = ""
    scopes: frozenset[Scope] = frozenset()
    databases: frozenset[str] | None = None  # None: all databases
    # Further scopes on single databases, by alias.
    scopes_on: Mapping[str, frozenset[Scope]] = field(default_factory=dict, hash=False)
    access_error: RouteError | None = None  # why the request is refused; None: it is not
    # Whether the actor has a permission of the project, such as "shop.approve_migrations".
    holds: Callable[[str], bool] = field(default=_nothing, repr=False, compare=False)
    credential: Credential | None = None  # of a machine
    permit: ApplyPermit | None = None  # the permit of the request

    @property
    def identity(self) -> ActorRef:
        """The identity that runs and approvals record."""
        return ActorRef(kind=self.kind, name=self.name, key=self.key)

    @property
    def credential_facts(self) -> dict[str, Any]:
        """The facts about the credential for the ledger; empty without one."""
        return self.credential.facts() if self.credential else {}


def shell_actor() -> Actor:
    """Return the actor of `manage.py`, which has every permission.

    The account is that of the process, never from an environment variable. The host is not
    part of the key: an account is the same user on every host.
    """
    try:
        account = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user of a container without a name
        account = str(os.getuid())
    return Actor(
        kind=ActorKind.COMMAND,
        name=f"{account}@{socket.gethostname()}",
        key=account,
        scopes=frozenset(Scope),
        holds=_everything,
    )


class IssuerUnavailable(Unauthenticated):
    """The keys to verify identity tokens are unavailable."""

    code = "issuer_unavailable"
    http_status = 503
    exit_code = 8
    hint = "Retry later, or use a token from TOKENS."


class WrongNetwork(Forbidden):
    """This is not allowed from this address."""

    hint = "Use an address that NETWORKS and the token's own networks allow."


@dataclass(frozen=True, slots=True, kw_only=True)
class Grants:
    """The permissions of a user."""

    scopes: frozenset[Scope]  # on every database in `databases`
    scopes_on: Mapping[str, frozenset[Scope]]  # further ones on single databases
    databases: frozenset[str] | None  # that the user can access; None: all


def grants_of(user: Any) -> Grants:
    """Return the permissions of a staff user. Raises `DatabaseError`.

    A backend with object permissions is also queried for each database, as a `Target`;
    Django's own backend has no object permissions.
    """
    scopes = frozenset(scope for scope in Scope if user.has_perm(permission_for(scope)))
    targets = [find_target(alias) for alias in all_aliases()]
    scopes_on = {target.alias: _object_scopes(user, target, scopes) for target in targets}
    return Grants(
        scopes=scopes,
        scopes_on={alias: more for alias, more in scopes_on.items() if more},
        databases=databases_of(user),
    )


def _object_scopes(user: Any, target: Target, scopes: frozenset[Scope]) -> frozenset[Scope]:
    return frozenset(
        scope
        for scope in Scope
        if scope not in scopes and user.has_perm(permission_for(scope), target)
    )


def databases_of(user: Any) -> frozenset[str] | None:
    """Return the databases that `groups` in `DATABASES` let the user access; None: all."""
    restricted = {
        alias: options.groups
        for alias, options in route_settings().databases.items()
        if options.groups is not None
    }
    if not restricted or getattr(user, "is_superuser", False):
        return None
    groups = getattr(user, "groups", None)
    names = frozenset(() if groups is None else groups.values_list("name", flat=True))
    return frozenset(
        alias
        for alias in all_aliases()
        if alias not in restricted or restricted[alias] & names
    )


def permission_for(scope: Scope) -> str:
    """Return the Django permission for a scope."""
    return f"migration_route.{'view_run' if scope is Scope.READ else scope.value}"


# A scope that acts on a plan or a run includes the scopes to read them.
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


def scopes_of(actor: Actor, database: str | None = None) -> frozenset[Scope]:
    """Return the scopes of the actor on a database, or without one on any database."""
    on = actor.scopes_on
    further = on.values() if database is None else [on.get(database, frozenset())]
    granted = actor.scopes.union(*further)
    scopes = granted.union(*(_IMPLIED[scope] for scope in granted))
    return scopes - USER_ONLY_SCOPES if actor.kind in _MACHINES else scopes


def may(actor: Actor, scope: Scope, database: str | None = None) -> bool:
    """Whether the actor has the scope, on the database if one is named."""
    if actor.access_error is not None or scope not in scopes_of(actor, database):
        return False
    return database is None or actor.databases is None or database in actor.databases


def readable(actor: Actor, aliases: Iterable[str]) -> frozenset[str] | None:
    """Return which of these databases the actor may read; None: no restriction."""
    if Scope.READ in scopes_of(replace(actor, scopes_on={})):
        return actor.databases
    return frozenset(alias for alias in aliases if may(actor, Scope.READ, alias))


def authorise(actor: Actor, *scopes: Scope, database: str | None = None) -> None:
    """Raise `Unauthenticated` or `Forbidden`, naming what is missing, unless the actor has
    all the scopes."""
    if actor.access_error is not None:
        raise actor.access_error
    if actor.kind is ActorKind.ANONYMOUS:
        raise Unauthenticated
    for scope in scopes:
        if may(actor, scope, database):
            continue
        if scope in scopes_of(actor, database):
            raise Forbidden(f"{actor.name!r} has no access to the database {database!r}.")
        where = f" on the database {database!r}" if scope in scopes_of(actor) else ""
        raise Forbidden(
            f"{actor.name!r} lacks the permission {scope.value!r}{where}.",
            needs=scope.value,
        )
