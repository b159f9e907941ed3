"""Who asks?"""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from migration_route.access.signing import SignedPermit
from migration_route.approvals import Identity
from migration_route.errors import RouteError
from migration_route.vocabulary import ActorKind, Scope


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
    permit: SignedPermit | None = None  # the right to one plan that came along

    @property
    def identity(self) -> Identity:
        """Return who this is, as runs and approvals record it."""
        return Identity(kind=self.kind, name=self.name, key=self.key)

    @property
    def credential_facts(self) -> dict[str, Any]:
        """Return what the ledger tells of the credential; empty without one."""
        return self.credential.facts() if self.credential else {}


def on_this_host() -> Actor:
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
