"""Who is behind this HTTP request?"""

from __future__ import annotations

from dataclasses import replace

from django.http import HttpRequest

from migration_route.access.actor import Actor
from migration_route.access.addresses import client_address, network_flaw
from migration_route.access.forms import reading_a_form
from migration_route.access.identity.finding import find_identity, looks_like_one
from migration_route.access.permits import find_permit
from migration_route.access.sessions import SAFE_METHODS, find_person
from migration_route.access.signing import PREFIX
from migration_route.access.tokens import find_token, unknown_token
from migration_route.errors import Unauthenticated
from migration_route.vocabulary import ActorKind

_MAX_SECRET = 500
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_MAX_SIGNED = 8192  # of a permit, or of an identity token


def find_actor(request: HttpRequest) -> Actor:
    """Return the actor of a request: by its token if it brings one, else by its session.

    A token, a permit or an identity token decides alone: no user, session or table is
    looked at. Who calls from a network that may not has a flaw, whoever it is.
    """
    address = client_address(request.META)
    authorization = request.headers.get("Authorization", "")
    if authorization:
        actor = _find_machine(authorization, address)
    elif flaw := network_flaw(address, changes=_changes(request)):
        # Nobody's session is looked up for an address that may not call.
        return Actor(kind=ActorKind.ANONYMOUS, address=address, flaw=flaw)
    else:
        return find_person(request, address=address)
    return _in_its_network(request, actor)


def find_bearer_of_permit(request: HttpRequest, text: str) -> Actor:
    """Return the actor of a form that brings a permit: neither session nor CSRF token is
    looked at, because the permit itself shows that the form was meant."""
    address = client_address(request.META)
    return _in_its_network(request, find_permit(text, address=address))


def permit_in_form(request: HttpRequest) -> str:
    """Return the permit that a form brings; "" where none does. Raises `InvalidRequest`.

    With an Authorization header, a form is not looked at.
    """
    if "Authorization" in request.headers or request.content_type not in _FORMS:
        return ""
    with reading_a_form():
        return request.POST.get("permit", "").strip()


def _find_machine(authorization: str, address: str) -> Actor:
    scheme, _, secret = authorization.partition(" ")
    secret = secret.strip()
    if scheme.lower() == "bearer" and secret:
        if secret.startswith(PREFIX):
            return find_permit(secret, address=address)
        if looks_like_one(secret) and len(secret) <= _MAX_SIGNED:
            return find_identity(secret, address=address)
        if len(secret) <= _MAX_SECRET:
            known = find_token(secret, address=address)
            return known or unknown_token(secret, address=address)
    flaw = Unauthenticated("The Authorization header must read 'Bearer TOKEN'.")
    return Actor(kind=ActorKind.ANONYMOUS, address=address, flaw=flaw)


def _in_its_network(request: HttpRequest, actor: Actor) -> Actor:
    """Return the actor with the flaw that they call from elsewhere, if they do: whether a
    token is good is not told there."""
    flaw = network_flaw(actor.address, changes=_changes(request))
    return replace(actor, flaw=flaw) if flaw else actor


def _changes(request: HttpRequest) -> bool:
    return request.method not in SAFE_METHODS
