"""Who asks?"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from migration_route.errors import RouteError
from migration_route.vocabulary import ActorKind, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asks, from where, and what they were given the right to do."""

    kind: ActorKind
    name: str = ""
    address: str = ""
    scopes: frozenset[Scope] = frozenset()
    databases: frozenset[str] | None = None  # None: every database
    # What they may do besides, on single databases only, by alias.
    scopes_on: Mapping[str, frozenset[Scope]] = field(default_factory=dict, hash=False)
    flaw: RouteError | None = None  # why they are not who they say, if so


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
    )
