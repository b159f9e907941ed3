"""Databases that can be migrated, and private connections to them.

A request's connection may be in the request's transaction, which decides over what is
written there; a pooled connection is passed on with whatever was set in it. This package
therefore writes, locks and verifies on connections of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import Error as DatabaseFailure
from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf import route_settings
from migration_route.core.canonical_json import digest
from migration_route.core.errors import (
    Misconfigured,
    PoolerDetected,
    TenantsNotSupported,
    UnknownDatabase,
)
from migration_route.vendors import unavailable, vendor_name, vendor_of, wrapper_of

PATIENCE = 5.0
"""Seconds to wait for a locked SQLite file."""

ANSWER_TIMEOUT = 15.0
"""Seconds after which a statement of the ledger or of a lock fails without a response: each
is short, and the network may have lost what the server sent."""

_direct: set[str] = set()  # digests of settings that connect directly


def private_connection(
    alias: str, *, patience: float = PATIENCE, answer_timeout: float | None = None
) -> BaseDatabaseWrapper:
    """Return a connection to the database that belongs to the caller, who closes it.

    It uses the direct alias if the settings name one. Raises `DatabaseUnavailable` if the
    backend cannot be loaded.
    """
    way = route_settings().database(alias).direct_alias or alias
    connection = wrapper_of(way).copy(alias=alias)
    connection.settings_dict = own_settings(
        way, connection.settings_dict, patience, answer_timeout
    )
    return connection


def reader_connection(alias: str, *, timeout: float) -> BaseDatabaseWrapper | None:
    """Return a connection on which another thread, which closes it, reads a database as
    this thread's connection would reach it: a direct alias is not used.

    None if only this thread's connection reaches the database, as one in memory, if its
    vendor is not supported, or if its backend is not Django's: it may take the connection
    from a pool. Raises `DatabaseUnavailable` if the backend cannot be loaded.
    """
    usual = wrapper_of(alias)
    if not type(usual).__module__.startswith("django.db.backends."):
        return None
    try:
        vendor = vendor_of(alias)
    except Misconfigured:
        return None
    if vendor.is_private(usual):
        return None
    connection = usual.copy(alias=alias)
    connection.settings_dict = own_settings(
        alias, connection.settings_dict, timeout, timeout
    )
    connection.inc_thread_sharing()
    return connection


def own_settings(
    alias: str,
    settings: dict[str, Any],
    patience: float = PATIENCE,
    answer_timeout: float | None = None,
) -> dict[str, Any]:
    """Return the settings of a private connection, from those of an ordinary connection to
    a database of the same vendor as the alias."""
    return {
        **vendor_of(alias).own_settings(
            settings, patience=patience, answer_timeout=answer_timeout
        ),
        "ATOMIC_REQUESTS": False,
        "AUTOCOMMIT": True,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": False,
    }


def is_in_one_transaction(alias: str, *, atomic: bool) -> bool:
    """Return whether a migration that is `atomic` or not runs in one transaction on that
    database, schema changes included, so that a failure rolls all of it back.

    The schema editor of the migrating connection decides: an editor of another package may
    not be atomic where the database could be (`BaseDatabaseSchemaEditor.__init__`).
    """
    way = route_settings().database(alias).direct_alias or alias
    editor = connections[way].schema_editor(atomic=atomic)  # not entered: sends nothing
    return bool(editor.atomic_migration)


def require_session_connection(alias: str) -> None:
    """Raise `PoolerDetected` if a session is passed from client to client, or outlives the
    connection that opened it.

    A session lock would not hold there, or not be released. A connection that is known to
    be direct is not tested again by this process unless its settings change.

    Raises `DatabaseUnavailable` if the backend raises an error that is not Django's, such
    as an exhausted pool.
    """
    way = route_settings().database(alias).direct_alias
    vendor = vendor_of(way or alias)
    first, second = private_connection(alias), private_connection(alias)
    settings = digest([alias, repr(first.settings_dict)])
    if settings in _direct:
        return
    try:
        if vendor.is_direct(first, second):
            _direct.add(settings)
            return
    except DatabaseFailure:
        raise
    except Exception as error:
        raise unavailable(alias, error) from error
    finally:
        first.close()
        second.close()
    if way is None:
        raise PoolerDetected(
            f"The database {alias!r} is behind a transaction pooler or a connection pool, "
            "which shares one session between clients: a lock would not hold, or not be "
            "released.",
            hint="Add an alias to DATABASES that connects to the server directly, and set "
            f'MIGRATION_ROUTE["DATABASES"][{alias!r}]["direct_alias"] to it.',
        )
    raise PoolerDetected(
        f"The direct alias {way!r} of the database {alias!r} is behind a transaction "
        "pooler or a connection pool as well.",
        hint=f'Set MIGRATION_ROUTE["DATABASES"][{alias!r}]["direct_alias"] to an alias '
        "that connects to the server directly.",
    )


@contextmanager
def using_private_connection(
    alias: str, *, patience: float = PATIENCE, answer_timeout: float | None = None
) -> Iterator[BaseDatabaseWrapper]:
    """Replace `connections[alias]` with a private connection, in this thread and block.

    Querysets, `transaction.atomic` and the migration recorder use it; a transaction that
    the thread has open is left alone.
    """
    usual = wrapper_of(alias)
    own = private_connection(alias, patience=patience, answer_timeout=answer_timeout)
    connections[alias] = own
    try:
        yield own
    finally:
        connections[alias] = usual
        own.close()


@contextmanager
def ledger_connection(alias: str, *, patience: float = PATIENCE) -> Iterator[None]:
    """Replace `connections[alias]` with a private connection for short statements only."""
    with using_private_connection(alias, patience=patience, answer_timeout=ANSWER_TIMEOUT):
        yield


@contextmanager
def ledger_transaction(alias: str) -> Iterator[None]:
    """Open a transaction with limits for lock waits and idle time.

    It locks rows that others need. Without limits, a host that stops responding in the
    middle would keep them locked until the server ends its session, which takes hours by
    default.
    """
    with transaction.atomic(using=alias):
        vendor_of(alias).limit_transaction(connections[alias])
        yield


_SWITCHES = ("set_tenant", "set_schema")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    alias: str  # its key in DATABASES
    vendor: str  # "postgresql", "mysql" (also MariaDB), "sqlite", "unknown"


def all_aliases() -> tuple[str, ...]:
    """Return the alias of every database, in the order of DATABASES.

    A direct alias only bypasses the pooler of another alias and is not included.
    """
    ways = route_settings().direct_aliases
    return tuple(
        alias
        for alias, settings in connections.settings.items()
        if settings["ENGINE"] != "django.db.backends.dummy" and alias not in ways
    )


def owner_of(alias: str) -> str:
    """Return the alias whose direct alias this is, or the alias itself."""
    ways = route_settings().databases.items()
    return next((owner for owner, found in ways if found.direct_alias == alias), alias)


def refuse_tenants(alias: str) -> None:
    """Raise `TenantsNotSupported` if the backend of a database switches schemas, as
    django-tenants and similar packages do.

    A run uses the migration recorder of one schema, but their migrate command migrates all.
    """
    connection = wrapper_of(alias)
    if any(callable(getattr(connection, name, None)) for name in _SWITCHES):
        raise TenantsNotSupported(
            f"The database {alias!r} has a schema for each tenant "
            f"({connections.settings[alias]['ENGINE']}), but a run migrates one schema."
        )


def find_target(alias: str) -> Target:
    """Return the target of that alias.

    Raises `UnknownDatabase`, with the known aliases.
    """
    known = all_aliases()
    if (owner := owner_of(alias)) != alias:
        raise UnknownDatabase(
            f"{alias!r} is only the direct alias of the database {owner!r}.",
            hint=f"Use {owner!r}.",
        )
    if alias not in known:
        raise UnknownDatabase(
            f"This project has no database {alias!r}.",
            hint=f"Use one of: {', '.join(known)}.",
        )
    return Target(alias=alias, vendor=vendor_name(alias))
