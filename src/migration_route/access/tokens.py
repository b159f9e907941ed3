"""Is this token one of those in the settings? No table is touched."""

from __future__ import annotations

from datetime import UTC, datetime
from hmac import compare_digest

from migration_route.access.actor import Actor
from migration_route.conf import Token, route_settings
from migration_route.errors import Unauthenticated
from migration_route.tokens import digest_of
from migration_route.vocabulary import ActorKind


def find_token(secret: str, *, address: str) -> Actor:
    """Return the actor behind a token; an unknown or expired one has a flaw.

    Every entry is compared, each in constant time.
    """
    presented = digest_of(secret)
    found: Token | None = None
    for token in route_settings().tokens:
        if compare_digest(token.sha256, presented):
            found = token
    if found is None:
        return _flawed("", "This token is not known here.", address)
    if found.expires is not None and datetime.now(UTC).date() >= found.expires:
        return _flawed(found.name, f"The token {found.name!r} has expired.", address)
    return Actor(
        kind=ActorKind.TOKEN,
        name=found.name,
        address=address,
        scopes=found.scopes,
        databases=found.databases,
    )


def _flawed(name: str, message: str, address: str) -> Actor:
    flaw = Unauthenticated(message, hint="'manage.py migration_route token new' makes one.")
    return Actor(kind=ActorKind.TOKEN, name=name, address=address, flaw=flaw)
