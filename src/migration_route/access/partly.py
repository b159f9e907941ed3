"""Who is signed in, where the table of users is behind the code?

The session says which user it is, and that user is read with the columns that exist.
Nothing is written, and everything is read over a connection of its own. Where the project
decides by code of its own who a user is, that code is not gone round: nobody is recognised.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.db import connections, router
from django.http import HttpRequest
from django.utils.crypto import constant_time_compare

from migration_route.connecting import own_connection

logger = logging.getLogger("migration_route.access")

Found = TypeVar("Found")

_ATTEMPTS = 3
"""The columns may come while they are looked at: that is what everybody waits for."""


def read_partly(request: HttpRequest, use: Callable[[Any], Found]) -> Found | None:
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
    with own_connection(alias):
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
