"""Which member of staff is signed in, and did they mean to send this?"""

from __future__ import annotations

from typing import Any

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from migration_route.access.actor import Actor
from migration_route.errors import (
    CsrfFailed,
    Forbidden,
    IdentityUnavailable,
    RouteError,
)
from migration_route.vocabulary import ActorKind, Scope

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class _CsrfCheck(CsrfViewMiddleware):
    """Django's own check, giving its reason instead of a page."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        del request
        return reason


def find_person(request: HttpRequest, *, address: str) -> Actor:
    """Return who is signed in; anonymous without a session, flawed where the tables of
    users or sessions cannot be read or the CSRF check fails."""
    try:
        user = getattr(request, "user", None)
        if user is None or not user.is_authenticated:
            return Actor(kind=ActorKind.ANONYMOUS, address=address)
        actor = _actor_of(user, address)
    except DatabaseError as error:
        return Actor(kind=ActorKind.ANONYMOUS, address=address, flaw=_unavailable(error))
    if actor.flaw is None and (flaw := csrf_flaw(request)):
        return Actor(kind=actor.kind, name=actor.name, address=address, flaw=flaw)
    return actor


def _actor_of(user: Any, address: str) -> Actor:
    name = user.get_username()
    if not (user.is_active and user.is_staff):
        flaw = Forbidden("The migration route is for members of staff.")
        return Actor(kind=ActorKind.PERSON, name=name, address=address, flaw=flaw)
    scopes = frozenset(scope for scope in Scope if user.has_perm(permission_of(scope)))
    return Actor(
        kind=ActorKind.PERSON,
        name=name,
        address=address,
        scopes=scopes,
        holds=user.has_perm,
    )


def permission_of(scope: Scope) -> str:
    """Return the permission that gives a person this right."""
    return f"migration_route.{'view_run' if scope is Scope.READ else scope.value}"


def _unavailable(error: DatabaseError) -> RouteError:
    return IdentityUnavailable(
        "Nobody can be recognised: the tables of users or sessions cannot be read "
        f"({type(error).__name__})."
    )


def csrf_flaw(request: HttpRequest) -> RouteError | None:
    """Return what is wrong with the CSRF token of a request that changes something."""
    if request.method in SAFE_METHODS:
        return None
    check = _CsrfCheck(_no_response)
    check.process_request(request)
    reason = check.process_view(request, _no_response, (), {})
    return CsrfFailed(f"The CSRF check failed: {reason}") if reason else None


def _no_response(request: HttpRequest) -> HttpResponse:
    raise AssertionError(f"never called, for {request.path}")
