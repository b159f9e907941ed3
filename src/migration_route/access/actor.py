"""Who asks?"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from migration_route.errors import RouteError
from migration_route.vocabulary import ActorKind, Scope


def _nothing(permission: str) -> bool:
    del permission
    return False


def _everything(permission: str) -> bool:
    del permission
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asks, from where, and what they were given the right to do."""

    kind: ActorKind
    name: str = ""
    address: str = ""
    scopes: frozenset[Scope] = frozenset()
    databases: frozenset[str] | None = None  # None: every database
    flaw: RouteError | None = None  # why they are not who they say, if so
    # Have they a permission of the project, such as "shop.approve_migrations"?
    holds: Callable[[str], bool] = field(default=_nothing, repr=False, compare=False)


def on_this_host() -> Actor:
    """Return the actor of `manage.py`: who has a shell and the settings has every right."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user without a name
        user = str(os.getuid())
    return Actor(
        kind=ActorKind.COMMAND,
        name=f"{user}@{socket.gethostname()}",
        scopes=frozenset(Scope),
        holds=_everything,
    )
