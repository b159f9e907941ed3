"""How does the route get a connection that nobody else uses?

A request's connection may stand in the request's transaction, and what is written
there goes with it; a pooled one is handed on with whatever was set in it. So the route
writes, locks and verifies on connections of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf import route_settings
from migration_route.vendors import vendor_of

PATIENCE = 5.0
"""Seconds that a door waits for a busy SQLite file."""


def new_connection(alias: str, *, patience: float = PATIENCE) -> BaseDatabaseWrapper:
    """Return a connection to that database which belongs to the caller; close it.

    It goes the direct way where the settings name one.
    """
    way = route_settings().database(alias).direct or alias
    connection = connections[way].copy(alias=alias)
    connection.settings_dict = {
        **vendor_of(way).own_settings(connection.settings_dict, patience=patience),
        "ATOMIC_REQUESTS": False,
        "AUTOCOMMIT": True,
        "CONN_MAX_AGE": 0,
        "CONN_HEALTH_CHECKS": False,
    }
    return connection


@contextmanager
def own_connection(
    alias: str, *, patience: float = PATIENCE
) -> Iterator[BaseDatabaseWrapper]:
    """Let `connections[alias]`, in this thread and block, be a connection of its own.

    Querysets, `transaction.atomic` and the migration recorder find it there; whatever
    transaction the thread stands in is left alone.
    """
    usual = connections[alias]
    own = new_connection(alias, patience=patience)
    connections[alias] = own
    try:
        yield own
    finally:
        connections[alias] = usual
        own.close()
