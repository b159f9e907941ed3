"""Who is behind this HTTP request?

Who comes with a permit, and for what is it good? No table is touched.

Is this token one of those in the settings? No table is touched.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from hmac import compare_digest

from django.http import HttpRequest

from migration_route.access.actors import Actor, Credential
from migration_route.access.isolation import reading_a_form
from migration_route.access.networks import client_address, network_flaw
from migration_route.access.oidc import authenticate_jwt, is_jwt
from migration_route.access.permits import LONGEST, PREFIX, is_expired, read_permit
from migration_route.access.sessions import SAFE_METHODS, authenticate_session
from migration_route.conf import Token, route_settings
from migration_route.core.credentials import digest_of, id_of
from migration_route.core.enums import ActorKind, Scope
from migration_route.core.errors import RouteError, Unauthenticated

_HINT = "'manage.py migration_route permit FINGERPRINT' on a host makes one."


def authenticate_permit(text: str, *, address: str) -> Actor:
    """Return the actor who has brought a permit: they read its database, and carry out
    its plan. One that is not good has a flaw."""
    if not route_settings().permits:
        return _flawed(address, Unauthenticated("Permits are switched off here."))
    if len(text) > LONGEST:
        return _flawed(address, Unauthenticated("This is no permit.", hint=_HINT))
    try:
        permit = read_permit(text)
    except Unauthenticated as error:
        return _flawed(address, error)
    credential = Credential(id=permit.id)
    flaw = None
    if is_expired(permit):
        flaw = Unauthenticated(f"This permit has expired: {permit.expires}.", hint=_HINT)
    return Actor(
        kind=ActorKind.PERMIT,
        name=permit.issued_by,
        address=address,
        scopes=frozenset(map(Scope, permit.scopes)) | {Scope.READ, Scope.PLAN},
        databases=frozenset({permit.database}),
        flaw=flaw,
        credential=credential,
        permit=permit,
    )


def _flawed(address: str, flaw: RouteError) -> Actor:
    return Actor(kind=ActorKind.PERMIT, address=address, flaw=flaw)


_MADE_HERE = re.compile(r"mrt_[A-Za-z0-9_-]{43}")


def authenticate_token(secret: str, *, address: str) -> Actor | None:
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


_MAX_SECRET = 500
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_MAX_SIGNED = 8192  # of a permit, or of an identity token


def authenticate(request: HttpRequest) -> Actor:
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
        return authenticate_session(request, address=address)
    return _in_its_network(request, actor)


def authenticate_permit_form(request: HttpRequest, text: str) -> Actor:
    """Return the actor of a form that brings a permit: neither session nor CSRF token is
    looked at, because the permit itself shows that the form was meant."""
    address = client_address(request.META)
    return _in_its_network(request, authenticate_permit(text, address=address))


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
            return authenticate_permit(secret, address=address)
        if is_jwt(secret) and len(secret) <= _MAX_SIGNED:
            return authenticate_jwt(secret, address=address)
        if len(secret) <= _MAX_SECRET:
            known = authenticate_token(secret, address=address)
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
