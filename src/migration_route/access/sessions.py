"""Which member of staff is signed in, and did they mean to send this?

Who is signed in, where the table of users is behind the code?

The session says which user it is, and that user is read with the columns that exist.
Nothing is written, and everything is read over a connection of its own. Where the project
decides by code of its own who a user is, that code is not gone round: nobody is recognised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.db import DatabaseError, connections, router
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.crypto import constant_time_compare

from migration_route.access.actors import Actor, granted_to
from migration_route.access.isolation import reading_a_form, savepoints
from migration_route.access.reauthentication import reauthentication_error
from migration_route.conf.databases import using_private_connection
from migration_route.core.enums import ActorKind
from migration_route.core.errors import (
    CsrfFailed,
    Forbidden,
    IdentityUnavailable,
    RouteError,
)

logger = logging.getLogger("migration_route.access")

Found = TypeVar("Found")

_ATTEMPTS = 3
"""The columns may come while they are looked at: that is what everybody waits for."""


def with_partial_user(request: HttpRequest, use: Callable[[Any], Found]) -> Found | None:
    """Return what `use` makes of the user of this session, read with the columns that
    exist; None where that user cannot be read, or should not be trusted.

    `use` reads over the same connection, and may fail as well: that is in the log.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with _own_connection_of_users() as alias:
                user = _find(request, alias)
                return None if user is None else use(user)
        except Exception:  # the project's own user, with columns missing
            if attempt == _ATTEMPTS:
                logger.warning(
                    "The one who is signed in cannot be read in part", exc_info=True
                )
    return None


@contextmanager
def _own_connection_of_users() -> Iterator[str]:
    alias = router.db_for_read(get_user_model())
    with using_private_connection(alias):
        yield alias


def _find(request: HttpRequest, alias: str) -> Any | None:
    from django.contrib.auth.backends import (
        ModelBackend,  # brings models: a project may have none
    )

    session = getattr(request, "session", None)
    if session is None or SESSION_KEY not in session:
        return None
    path = session.get(BACKEND_SESSION_KEY, "")
    if path not in settings.AUTHENTICATION_BACKENDS:
        return None
    backend = load_backend(path)
    if not isinstance(backend, ModelBackend) or (
        type(backend).get_user is not ModelBackend.get_user
    ):
        return None
    user = _load(session[SESSION_KEY], alias)
    if not backend.user_can_authenticate(user) or not _is_of(session, user):
        return None
    return user


def _load(key: str, alias: str) -> Any:
    model = get_user_model()
    connection = connections[alias]
    present: dict[str, set[str]] = {}
    with connection.cursor() as cursor:
        for table in {field.model._meta.db_table for field in model._meta.concrete_fields}:
            columns = connection.introspection.get_table_description(cursor, table)
            present[table] = {column.name for column in columns}
    names = [
        field.attname
        for field in model._meta.concrete_fields
        if field.column in present[field.model._meta.db_table]
    ]
    pk = model._meta.pk.to_python(key)
    return model._default_manager.using(alias).only(*names).get(pk=pk)


def _is_of(session: Any, user: Any) -> bool:
    """Tell whether the session was made for this password, as Django's own check does."""
    given = session.get(HASH_SESSION_KEY)
    if not given:
        return False
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(given, found) for found in hashes)


SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class _CsrfCheck(CsrfViewMiddleware):
    """Django's own check, giving its reason instead of a page."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        del request
        return reason


def authenticate_session(request: HttpRequest, *, address: str) -> Actor:
    """Return who is signed in; anonymous without a session, flawed where nobody can be
    recognised, where the CSRF check fails, or where a change asks for a fresh login.

    Whatever is not a safe method is a change: no verb has to ask for itself.
    """
    person = load_session_user(request, address=address)
    if person.user is None or request.method in SAFE_METHODS:
        return person.actor
    flaw = person.actor.flaw or csrf_flaw(request) or _staleness(request, person.user)
    return replace(person.actor, flaw=flaw) if flaw else person.actor


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """Who is signed in: their user, where there is one, and what they may do."""

    actor: Actor
    user: Any = None


def load_session_user(request: HttpRequest, *, address: str) -> Recognised:
    """Return who is signed in, however long ago; a user whose table is behind the code is
    read as far as it goes."""
    try:
        with savepoints():
            user = getattr(request, "user", None)
            if user is None or not user.is_authenticated:
                return Recognised(actor=Actor(kind=ActorKind.ANONYMOUS, address=address))
            return Recognised(actor=_actor_of(user, address), user=user)
    except DatabaseError as error:
        found = with_partial_user(
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
        with savepoints():
            return reauthentication_error(request, user)
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
