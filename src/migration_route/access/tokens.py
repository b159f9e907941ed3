"""Is this token one of those in the settings? No table is touched."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from hmac import compare_digest

from migration_route.access.actor import Actor, Credential
from migration_route.access.addresses import network_flaw
from migration_route.conf import Token, route_settings
from migration_route.errors import Unauthenticated
from migration_route.machines.tokens import digest_of, id_of
from migration_route.vocabulary import ActorKind

_MADE_HERE = re.compile(r"mrt_[A-Za-z0-9_-]{43}")


def find_token(secret: str, *, address: str) -> Actor | None:
    """Return the actor behind a token of the settings, or None where it is none of them;
    one that is expired or revoked has a flaw.

    Every digest of every entry is compared, each in constant time.
    """
    presented = digest_of(secret)
    found: Token | None = None
    is_old = False
    for token in route_settings().tokens:
        for position, digest in enumerate(token.sha256):
            if compare_digest(digest, presented):
                found, is_old = token, position > 0
    if found is None:
        return None
    credential = Credential(id=id_of(presented), is_old=is_old)
    if found.revoked:
        return flawed(f"The token {found.name!r} was revoked.", address, found, credential)
    if found.expires is not None and datetime.now(UTC).date() >= found.expires:
        return flawed(f"The token {found.name!r} has expired.", address, found, credential)
    return Actor(
        kind=ActorKind.TOKEN,
        name=found.name,
        address=address,
        scopes=found.scopes,
        databases=found.databases,
        flaw=network_flaw(address, changes=False, own=found.networks),
        credential=credential,
    )


def unknown_token(secret: str, *, address: str) -> Actor:
    """Return the actor whose token is not known here. If it looks like one that the route
    has made, its id is: an earlier line of the ledger may name whose it was."""
    is_ours = _MADE_HERE.fullmatch(secret) is not None
    credential = Credential(id=id_of(digest_of(secret))) if is_ours else None
    return flawed("This token is not known here.", address, None, credential)


def flawed(
    message: str, address: str, token: Token | None, credential: Credential | None
) -> Actor:
    """Return an actor who has come with a token that is not good."""
    flaw = Unauthenticated(message, hint="'manage.py migration_route token new' makes one.")
    return Actor(
        kind=ActorKind.TOKEN,
        name=token.name if token else "",
        address=address,
        flaw=flaw,
        credential=credential,
    )
