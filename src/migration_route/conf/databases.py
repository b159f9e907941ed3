"""How does the route get a connection that nobody else uses?

A request's connection may stand in the request's transaction, and what is written
there goes with it; a pooled one is handed on with whatever was set in it. So the route
writes, locks and verifies on connections of its own.

Which databases can be migrated, and what do they call themselves?
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
from migration_route.core.errors import PoolerDetected, TenantsNotSupported, UnknownDatabase
from migration_route.vendors import unavailable, vendor_name, vendor_of, wrapper_of

PATIENCE = 5.0
"""Seconds that a door waits for a busy SQLite file."""

ANSWER_TIMEOUT = 15.0
"""Seconds after which a statement of the ledger or of a lock fails that has no answer: each
of them is short, and the network may have lost what the server said."""

_direct: set[str] = set()  # digests of the settings that were found to lead straight there


def private_connection(
    alias: str, *, patience: float = PATIENCE, answer_timeout: float | None = None
) -> BaseDatabaseWrapper:
    """Return a connection to that database which belongs to the caller; close it.

    It goes the direct way where the settings name one. Raises `DatabaseUnavailable` where
    the backend cannot be loaded.
    """
    way = route_settings().database(alias).direct or alias
    connection = wrapper_of(way).copy(alias=alias)
    connection.settings_dict = own_settings(
        way, connection.settings_dict, patience, answer_timeout
    )
    return connection


def own_settings(
    alias: str,
    settings: dict[str, Any],
    patience: float = PATIENCE,
    answer_timeout: float | None = None,
) -> dict[str, Any]:
    """Return the settings of a connection that belongs to the route alone, from those of
    an ordinary one to a database of the same kind as that of the alias."""
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
    """Tell whether a migration that is `atomic` or not is carried out in one transaction
    on that database, schema changes included, so that a failure undoes all of it.

    The schema editor of the connection that migrates knows: an editor of another package
    may not be atomic where the database could (`BaseDatabaseSchemaEditor.__init__`).
    """
    way = route_settings().database(alias).direct or alias
    editor = connections[way].schema_editor(atomic=atomic)  # not entered: sends nothing
    return bool(editor.atomic_migration)


def require_session_connection(alias: str) -> None:
    """Raise `PoolerDetected` where a session is handed from client to client, or outlives
    the connection that it was opened for.

    A lock of the session would not hold, or not end, there. What was found to be direct
    is not asked again by this process, unless its settings change.

    Raises `DatabaseUnavailable` where the backend raises what is no error of Django, such
    as a pool that is exhausted.
    """
    way = route_settings().database(alias).direct
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
            f"The database {alias!r} is reached through a pooler of transactions or a "
            "connection pool, which gives one session to many clients in turn: a lock "
            "would not hold, or not end.",
            hint="Give the setting DATABASES an alias that leads to the server itself, "
            f'and name it: MIGRATION_ROUTE["DATABASES"][{alias!r}]["direct"].',
        )
    raise PoolerDetected(
        f"The direct way {way!r} to the database {alias!r} leads through a pooler of "
        "transactions or a connection pool as well.",
        hint="Let the alias lead to the server itself: "
        f'MIGRATION_ROUTE["DATABASES"][{alias!r}]["direct"].',
    )


@contextmanager
def using_private_connection(
    alias: str, *, patience: float = PATIENCE, answer_timeout: float | None = None
) -> Iterator[BaseDatabaseWrapper]:
    """Let `connections[alias]`, in this thread and block, be a connection of its own.

    Querysets, `transaction.atomic` and the migration recorder find it there; whatever
    transaction the thread stands in is left alone.
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
    """Let `connections[alias]` be a connection of its own for short statements alone."""
    with using_private_connection(alias, patience=patience, answer_timeout=ANSWER_TIMEOUT):
        yield


@contextmanager
def ledger_transaction(alias: str) -> Iterator[None]:
    """Open a transaction with limits for locks and idle time.

    It holds rows that others need. A host that falls silent in the middle would keep them
    until the server gives its session up, which takes hours by default.
    """
    with transaction.atomic(using=alias):
        vendor_of(alias).limit_transaction(connections[alias])
        yield


_SWITCHES = ("set_tenant", "set_schema")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A database that migrations are applied to."""

    alias: str  # its key in the setting DATABASES
    vendor: str  # "postgresql", "mysql" (MariaDB as well), "sqlite", "unknown"


def all_aliases() -> tuple[str, ...]:
    """Return the alias of every database, in the order of the setting DATABASES.

    An alias that is only the direct way past another one's pooler is not one more.
    """
    ways = route_settings().direct_aliases
    return tuple(
        alias
        for alias, settings in connections.settings.items()
        if settings["ENGINE"] != "django.db.backends.dummy" and alias not in ways
    )


def owner_of(alias: str) -> str:
    """Return the alias that this one is only the direct way to, or the alias itself."""
    ways = route_settings().databases.items()
    return next((owner for owner, found in ways if found.direct == alias), alias)


def refuse_tenants(alias: str) -> None:
    """Raise `TenantsNotSupported` where the backend of a database switches schemas, as
    django-tenants and packages like it do.

    The recorder of a run is that of one schema, and their migrate command migrates all.
    """
    connection = wrapper_of(alias)
    if any(callable(getattr(connection, name, None)) for name in _SWITCHES):
        raise TenantsNotSupported(
            f"The database {alias!r} holds a schema for each tenant "
            f"({connections.settings[alias]['ENGINE']}): a run migrates one schema, not a "
            "fleet of them."
        )


def find_target(alias: str) -> Target:
    """Return the target of that alias.

    Raises `UnknownDatabase`, with the names that there are.
    """
    known = all_aliases()
    if (owner := owner_of(alias)) != alias:
        raise UnknownDatabase(
            f"{alias!r} is only the direct way to the database {owner!r}.",
            hint=f"Ask for {owner!r}.",
        )
    if alias not in known:
        raise UnknownDatabase(
            f"There is no database {alias!r} in this project.",
            hint=f"There are: {', '.join(known)}.",
        )
    return Target(alias=alias, vendor=vendor_name(alias))
