"""Whose sessions are those that a migration opens? The worker's own, each locked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from migration_route.conf import route_settings
from migration_route.errors import OrphanBackend
from migration_route.vendors import vendor_of
from migration_route.vendors.interface import Slot, TargetLock

_LOCK_PATIENCE = 10.0
_LOCK_PAUSE = 0.05


@contextmanager
def worker_session(database: str, run: str) -> Iterator[None]:
    """Make every session that this process opens to the database the worker's own.

    One of them holds a lock, which outlives this process for as long as that session
    does. Raises `OrphanBackend` where the session of an earlier run does not end.
    """
    locks: list[tuple[BaseDatabaseWrapper, TargetLock]] = []
    vendor = vendor_of(database)
    lock_timeout = route_settings().database(database).lock_timeout.total_seconds()

    def prepare(connection: BaseDatabaseWrapper, **_: Any) -> None:
        # A look at the locks has a session of its own, which is in no transaction.
        if connection.alias != database or connections[database] is not connection:
            return
        vendor.prepare_worker_session(connection, run, lock_timeout=lock_timeout)
        if not is_locked(connection):
            lock = vendor.lock(connection, Slot.WORKER)
            _take(lock)
            locks.append((connection, lock))

    def is_locked(connection: BaseDatabaseWrapper) -> bool:
        """Tell whether this process holds the lock: a migration may open more sessions
        than one, in threads of its own."""
        return any(
            not vendor.lock_is_of_session
            or (holder is not connection and holder.connection is not None)
            for holder, _ in locks
        )

    connections[database].close()
    usual = connections[database].settings_dict
    connections[database].settings_dict = vendor.worker_settings(usual)
    connection_created.connect(prepare, dispatch_uid="migration_route.worker")
    try:
        with _directly(database):
            yield
    finally:
        connection_created.disconnect(prepare, dispatch_uid="migration_route.worker")
        connections[database].close()  # a pool would take it for one of its own
        connections[database].settings_dict = usual
        if not vendor.lock_is_of_session:
            for _, lock in locks:
                lock.release()  # the others go with their session


@contextmanager
def _directly(database: str) -> Iterator[None]:
    """Let the alias lead past a pooler, in every thread, where the settings name a way."""
    way = route_settings().database(database).direct
    if way is None:
        yield
        return
    usual = connections.settings[database]
    connections.settings[database] = {**connections.settings[way], "TEST": usual["TEST"]}
    del connections[database]  # the next look makes it anew, by the new settings
    try:
        yield
    finally:
        connections[database].close()
        connections.settings[database] = usual
        del connections[database]


def _take(lock: TargetLock) -> None:
    """Take the worker's lock; a session of an earlier run may still be ending."""
    deadline = time.monotonic() + _LOCK_PATIENCE
    while not lock.try_acquire():
        if time.monotonic() > deadline:
            raise OrphanBackend
        time.sleep(_LOCK_PAUSE)  # a session lock is polled, never waited for
