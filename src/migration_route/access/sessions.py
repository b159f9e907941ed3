"""Which member of staff is signed in, and did they mean to send this?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from migration_route.access.actor import Actor
from migration_route.access.forms import reading_a_form
from migration_route.access.grants import granted_to
from migration_route.access.partly import read_partly
from migration_route.access.reauthentication.freshness import what_is_missing
from migration_route.access.surroundings import unharmed
from migration_route.errors import (
    CsrfFailed,
    Forbidden,
    IdentityUnavailable,
    RouteError,
)
from migration_route.vocabulary import ActorKind

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class _CsrfCheck(CsrfViewMiddleware):
    """Django's own check, giving its reason instead of a page."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        del request
        return reason


def find_person(request: HttpRequest, *, address: str) -> Actor:
    """Return who is signed in; anonymous without a session, flawed where nobody can be
    recognised, where the CSRF check fails, or where a change asks for a fresh login.

    Whatever is not a safe method is a change: no verb has to ask for itself.
    """
    person = recognise(request, address=address)
    if person.user is None or request.method in SAFE_METHODS:
        return person.actor
    flaw = person.actor.flaw or csrf_flaw(request) or _staleness(request, person.user)
    return replace(person.actor, flaw=flaw) if flaw else person.actor


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """Who is signed in: their user, where there is one, and what they may do."""

    actor: Actor
    user: Any = None


def recognise(request: HttpRequest, *, address: str) -> Recognised:
    """Return who is signed in, however long ago; a user whose table is behind the code is
    read as far as it goes."""
    try:
        with unharmed():
            user = getattr(request, "user", None)
            if user is None or not user.is_authenticated:
                return Recognised(actor=Actor(kind=ActorKind.ANONYMOUS, address=address))
            return Recognised(actor=_actor_of(user, address), user=user)
    except DatabaseError as error:
        found = read_partly(
            request,
            lambda user: Recognised(actor=_actor_of_part(user, address), user=user),
        )
        flaw = _unavailable(error)
        nobody = Actor(kind=ActorKind.ANONYMOUS, address=address, flaw=flaw)
        return found or Recognised(actor=nobody)


def _actor_of(user: Any, address: str) -> Actor:
    actor = Actor(
        kind=ActorKind.PERSON,
        name=user.get_username(),
        key=str(user.pk),
        address=address,
    )
    if not (user.is_active and user.is_staff):
        flaw = Forbidden("The migration route is for members of staff.")
        return replace(actor, flaw=flaw)
    granted = granted_to(user)
    return replace(
        actor,
        scopes=granted.scopes,
        scopes_on=granted.scopes_on,
        databases=granted.databases,
        holds=user.has_perm,
    )


def _actor_of_part(user: Any, address: str) -> Actor:
    """Return the actor of a user who is read in part: without rights, not without a name,
    where the tables of permissions cannot be read either."""
    for name in (type(user).USERNAME_FIELD, "is_active", "is_staff"):
        getattr(user, name)  # without these nobody can be recognised
    try:
        return _actor_of(user, address)
    except DatabaseError:
        flaw = Forbidden(
            "What you may do cannot be read: the tables of permissions are not there.",
            hint=IdentityUnavailable.hint,
        )
        return Actor(
            kind=ActorKind.PERSON,
            name=user.get_username(),
            key=str(user.pk),
            address=address,
            flaw=flaw,
        )


def _staleness(request: HttpRequest, user: Any) -> RouteError | None:
    try:
        with unharmed():
            return what_is_missing(request, user)
    except DatabaseError as error:
        return IdentityUnavailable(
            "It cannot be known whether your login is fresh enough for a change: a table "
            f"that says so cannot be read ({type(error).__name__})."
        )


def _unavailable(error: DatabaseError) -> RouteError:
    return IdentityUnavailable(
        "Nobody can be recognised: the tables of users or sessions cannot be read "
        f"({type(error).__name__})."
    )


def csrf_flaw(request: HttpRequest) -> RouteError | None:
    """Return what is wrong with the CSRF token of a request that changes something.
    Raises `InvalidRequest` where the form that may bring it cannot be read."""
    if request.method in SAFE_METHODS:
        return None
    check = _CsrfCheck(_no_response)
    check.process_request(request)
    with reading_a_form():
        reason = check.process_view(request, _no_response, (), {})
    return CsrfFailed(f"The CSRF check failed: {reason}") if reason else None


def _no_response(request: HttpRequest) -> HttpResponse:
    raise AssertionError(f"never called, for {request.path}")
