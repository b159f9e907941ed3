"""Authenticates the staff user of a session, and checks the CSRF token of changes.

While the user table is behind the code, the user of the session is read with the columns
that exist: nothing is written, and a private connection is used. A project's own code that
decides who a user is is never bypassed: then no user is authenticated.
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

from migration_route.access.actors import Actor, grants_of
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

Result = TypeVar("Result")

_ATTEMPTS = 3
"""A migration may add the missing columns while they are read."""


def with_partial_user(request: HttpRequest, use: Callable[[Any], Result]) -> Result | None:
    """Call `use` with the user of this session, read with the columns that exist.

    Returns its result; None when the user cannot be read or is not authenticated. `use`
    reads over the same connection; if it fails, the error is logged.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with _private_user_connection() as alias:
                user = _find_user(request, alias)
                return None if user is None else use(user)
        except Exception:  # the project's user model, with missing columns
            if attempt == _ATTEMPTS:
                logger.warning(
                    "Reading the signed-in user with the existing columns failed",
                    exc_info=True,
                )
    return None


@contextmanager
def _private_user_connection() -> Iterator[str]:
    alias = router.db_for_read(get_user_model())
    with using_private_connection(alias):
        yield alias


def _find_user(request: HttpRequest, alias: str) -> Any | None:
    from django.contrib.auth.backends import (
        ModelBackend,  # imports models, which a project may not have installed
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
    user = _load_user(session[SESSION_KEY], alias)
    if not backend.user_can_authenticate(user) or not _matches_session_hash(session, user):
        return None
    return user


def _load_user(key: str, alias: str) -> Any:
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


def _matches_session_hash(session: Any, user: Any) -> bool:
    """Whether the session was created with the user's current password.

    The same check as in `django.contrib.auth.get_user`.
    """
    session_hash = session.get(HASH_SESSION_KEY)
    if not session_hash:
        return False
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(session_hash, valid) for valid in hashes)


SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class _CsrfCheck(CsrfViewMiddleware):
    """Django's CSRF check, which returns the reason instead of a page."""

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        del request
        return reason


def authenticate_session(request: HttpRequest, *, address: str) -> Actor:
    """Return the actor of the session; anonymous without a signed-in user.

    The actor has an `access_error` when the user cannot be read, when the CSRF check fails,
    or when a change needs a more recent login. Every method that is not safe counts as a
    change.
    """
    signed_in = load_session_user(request, address=address)
    if signed_in.user is None or request.method in SAFE_METHODS:
        return signed_in.actor
    access_error = (
        signed_in.actor.access_error
        or csrf_error(request)
        or _login_age_error(request, signed_in.user)
    )
    return (
        replace(signed_in.actor, access_error=access_error)
        if access_error
        else signed_in.actor
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUser:
    """The actor of a session, with its user object if there is one."""

    actor: Actor
    user: Any = None


def load_session_user(request: HttpRequest, *, address: str) -> SessionUser:
    """Return the actor of the session, without checking how recent the login is.

    While the user table is behind the code, the user is read with the columns that exist.
    """
    try:
        with savepoints():
            user = getattr(request, "user", None)
            if user is None or not user.is_authenticated:
                return SessionUser(actor=Actor(kind=ActorKind.ANONYMOUS, address=address))
            return SessionUser(actor=_actor_of(user, address), user=user)
    except DatabaseError as error:
        partial = with_partial_user(
            request,
            lambda user: SessionUser(actor=_actor_of_part(user, address), user=user),
        )
        access_error = _unavailable(error)
        anonymous = Actor(
            kind=ActorKind.ANONYMOUS, address=address, access_error=access_error
        )
        return partial or SessionUser(actor=anonymous)


def _actor_of(user: Any, address: str) -> Actor:
    actor = Actor(
        kind=ActorKind.USER,
        name=user.get_username(),
        key=str(user.pk),
        address=address,
    )
    if not (user.is_active and user.is_staff):
        access_error = Forbidden("Only staff users have access.")
        return replace(actor, access_error=access_error)
    granted = grants_of(user)
    return replace(
        actor,
        scopes=granted.scopes,
        scopes_on=granted.scopes_on,
        databases=granted.databases,
        holds=user.has_perm,
    )


def _actor_of_part(user: Any, address: str) -> Actor:
    """Return the actor of a partially read user.

    When the permission tables cannot be read either, it has a name but no permissions.
    """
    for name in (type(user).USERNAME_FIELD, "is_active", "is_staff"):
        getattr(user, name)  # required columns: raises when one is missing
    try:
        return _actor_of(user, address)
    except DatabaseError:
        access_error = Forbidden(
            "Your permissions cannot be read: the tables of permissions do not exist.",
            hint=IdentityUnavailable.hint,
        )
        return Actor(
            kind=ActorKind.USER,
            name=user.get_username(),
            key=str(user.pk),
            address=address,
            access_error=access_error,
        )


def _login_age_error(request: HttpRequest, user: Any) -> RouteError | None:
    try:
        with savepoints():
            return reauthentication_error(request, user)
    except DatabaseError as error:
        return IdentityUnavailable(
            "It cannot be checked whether your login is recent enough for a change: a "
            f"required table cannot be read ({type(error).__name__})."
        )


def _unavailable(error: DatabaseError) -> RouteError:
    return IdentityUnavailable(
        "No user can be authenticated: the tables of users or sessions cannot be read "
        f"({type(error).__name__})."
    )


def csrf_error(request: HttpRequest) -> RouteError | None:
    """Return the CSRF error of a request with a method that is not safe.

    Raises `InvalidRequest` when the form that may contain the token cannot be read.
    """
    if request.method in SAFE_METHODS:
        return None
    check = _CsrfCheck(_no_response)
    check.process_request(request)
    with reading_a_form():
        reason = check.process_view(request, _no_response, (), {})
    return CsrfFailed(f"The CSRF check failed: {reason}") if reason else None


def _no_response(request: HttpRequest) -> HttpResponse:
    raise AssertionError(f"never called, for {request.path}")
