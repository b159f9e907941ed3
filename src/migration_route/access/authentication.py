"""Authenticates an HTTP request by its token, its permit or its session.

Tokens, permits and identity tokens are checked without any table.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from hmac import compare_digest

from django.http import HttpRequest

from migration_route.access.actors import Actor, Credential
from migration_route.access.isolation import reading_a_form
from migration_route.access.networks import client_address, network_error
from migration_route.access.oidc import authenticate_jwt, is_jwt
from migration_route.access.permits import MAX_LENGTH, PREFIX, is_expired, read_permit
from migration_route.access.sessions import SAFE_METHODS, authenticate_session
from migration_route.conf import Token, route_settings
from migration_route.core.credentials import digest_of, id_of
from migration_route.core.enums import ActorKind, Scope
from migration_route.core.errors import RouteError, Unauthenticated

_HINT = "Create a permit with 'manage.py migration_route permit FINGERPRINT' on a host."


def authenticate_permit(text: str, *, address: str) -> Actor:
    """Return the actor of a permit, who may read its database and apply its plan.

    The actor of an invalid permit has an `access_error`.
    """
    if not route_settings().permits:
        return _rejected(address, Unauthenticated("Permits are disabled."))
    if len(text) > MAX_LENGTH:
        return _rejected(address, Unauthenticated("This is not a permit.", hint=_HINT))
    try:
        permit = read_permit(text)
    except Unauthenticated as error:
        return _rejected(address, error)
    credential = Credential(id=permit.id)
    access_error = None
    if is_expired(permit):
        access_error = Unauthenticated(
            f"This permit expired at {permit.expires}.", hint=_HINT
        )
    return Actor(
        kind=ActorKind.PERMIT,
        name=permit.issued_by,
        address=address,
        scopes=frozenset(map(Scope, permit.scopes)) | {Scope.READ, Scope.PLAN},
        databases=frozenset({permit.database}),
        access_error=access_error,
        credential=credential,
        permit=permit,
    )


def _rejected(address: str, access_error: RouteError) -> Actor:
    return Actor(kind=ActorKind.PERMIT, address=address, access_error=access_error)


_OWN_FORMAT = re.compile(r"mrt_[A-Za-z0-9_-]{43}")


def authenticate_token(secret: str, *, address: str) -> Actor | None:
    """Return the actor of a token of the settings; None if the token is not in them.

    The actor of an expired or revoked token has an `access_error`. Every digest of every
    entry is compared, each in constant time.
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
        return invalid_token_actor(
            f"The token {found.name!r} was revoked.", address, found, credential
        )
    if found.expires is not None and datetime.now(UTC).date() >= found.expires:
        return invalid_token_actor(
            f"The token {found.name!r} has expired.", address, found, credential
        )
    return Actor(
        kind=ActorKind.TOKEN,
        name=found.name,
        address=address,
        scopes=found.scopes,
        databases=found.databases,
        access_error=network_error(address, changes=False, own=found.networks),
        credential=credential,
    )


def unknown_token(secret: str, *, address: str) -> Actor:
    """Return the flawed actor of an unknown token.

    If the token has the format of `token new`, its id is included: an earlier entry of the
    ledger may name its owner.
    """
    has_own_format = _OWN_FORMAT.fullmatch(secret) is not None
    credential = Credential(id=id_of(digest_of(secret))) if has_own_format else None
    return invalid_token_actor("This token is unknown.", address, None, credential)


def invalid_token_actor(
    message: str, address: str, token: Token | None, credential: Credential | None
) -> Actor:
    """Return the actor of an invalid token."""
    access_error = Unauthenticated(
        message, hint="Create a token with 'manage.py migration_route token new'."
    )
    return Actor(
        kind=ActorKind.TOKEN,
        name=token.name if token else "",
        address=address,
        access_error=access_error,
        credential=credential,
    )


_MAX_SECRET = 500
_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_MAX_SIGNED = 8192  # of a permit, or of an identity token


def authenticate(request: HttpRequest) -> Actor:
    """Return the actor of a request, by its token if it has one, else by its session.

    A token, a permit or an identity token is sufficient: no user, session or table is
    read. An actor from a network that is not allowed has an `access_error`.
    """
    address = client_address(request.META)
    authorization = request.headers.get("Authorization", "")
    if authorization:
        actor = _authenticate_header(authorization, address)
    elif access_error := network_error(address, changes=_changes(request)):
        # No session is loaded for an address that is not allowed.
        return Actor(kind=ActorKind.ANONYMOUS, address=address, access_error=access_error)
    else:
        return authenticate_session(request, address=address)
    return _with_network_check(request, actor)


def authenticate_permit_form(request: HttpRequest, text: str) -> Actor:
    """Return the actor of a form with a permit.

    Neither the session nor a CSRF token is checked: the permit proves the intent.
    """
    address = client_address(request.META)
    return _with_network_check(request, authenticate_permit(text, address=address))


def permit_in_form(request: HttpRequest) -> str:
    """Return the permit of a form; "" if there is none. Raises `InvalidRequest`.

    A form is ignored when the request has an Authorization header.
    """
    if "Authorization" in request.headers or request.content_type not in _FORMS:
        return ""
    with reading_a_form():
        return request.POST.get("permit", "").strip()


def _authenticate_header(authorization: str, address: str) -> Actor:
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
    access_error = Unauthenticated("The Authorization header must read 'Bearer TOKEN'.")
    return Actor(kind=ActorKind.ANONYMOUS, address=address, access_error=access_error)


def _with_network_check(request: HttpRequest, actor: Actor) -> Actor:
    """Return the actor with an `access_error` if its address is not allowed.

    The error replaces that of the token: such an address does not learn whether it is
    valid.
    """
    access_error = network_error(actor.address, changes=_changes(request))
    return replace(actor, access_error=access_error) if access_error else actor


def _changes(request: HttpRequest) -> bool:
    return request.method not in SAFE_METHODS
