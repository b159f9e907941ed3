"""Who is behind this HTTP request?"""

from __future__ import annotations

from django.http import HttpRequest

from migration_route.access.actor import Actor
from migration_route.access.sessions import find_person
from migration_route.access.tokens import find_token
from migration_route.errors import Unauthenticated
from migration_route.vocabulary import ActorKind

_MAX_SECRET = 500


def find_actor(request: HttpRequest) -> Actor:
    """Return the actor of a request: by its token if it brings one, else by its session.

    A token decides alone: no user, session or table is looked at.
    """
    address = str(request.META.get("REMOTE_ADDR", ""))[:100]
    authorization = request.headers.get("Authorization", "")
    if not authorization:
        return find_person(request, address=address)
    scheme, _, secret = authorization.partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(secret.strip()) <= _MAX_SECRET:
        flaw = Unauthenticated("The Authorization header must read 'Bearer TOKEN'.")
        return Actor(kind=ActorKind.ANONYMOUS, address=address, flaw=flaw)
    return find_token(secret.strip(), address=address)
