"""Whose sessions are those that a migration opens? The worker's own, each locked."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
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
def worker_session(
    database: str, run: str, session_opens: Callable[[], None]
) -> Iterator[None]:
    """Make every session that this process opens to the database the worker's own.

    One of them holds a lock, which outlives this process for as long as that session
    does. Each session that is opened calls `session_opens` when the lock is held, before
    it is used: the run may have been concluded while no session of it was there. Raises
    `OrphanBackend` where the session of an earlier run does not end.
    """
    vendor = vendor_of(database)
    locks = WorkerLocks(database)
    lock_timeout = route_settings().database(database).lock_timeout.total_seconds()

    def prepare(connection: BaseDatabaseWrapper, **_: Any) -> None:
        # A look at the locks has a session of its own, which is in no transaction.
        if connection.alias != database or connections[database] is not connection:
            return
        vendor.prepare_worker_session(connection, run, lock_timeout=lock_timeout)
        locks.acquire(connection)
        if vendor.lock_is_of_session:  # else it was held all the while
            session_opens()

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
        locks.release()


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


class WorkerLocks:
    """The worker's lock of a database, held by one session of this process."""

    def __init__(self, database: str) -> None:
        self._vendor = vendor_of(database)
        self._held: list[tuple[BaseDatabaseWrapper, TargetLock, int | None]] = []

    def acquire(self, connection: BaseDatabaseWrapper) -> None:
        """Take the lock with this session, unless another open session of this process
        holds it: a migration may open more than one, in threads of its own.

        Raises `OrphanBackend` where the session of another process does not end.
        """
        if not self._vendor.lock_is_of_session and self._held:
            return
        # What this connection had before went with its earlier session.
        self._held = [one for one in self._held if one[0] is not connection]
        lock = self._vendor.lock(connection, Slot.WORKER)
        deadline = time.monotonic() + _LOCK_PATIENCE
        while not lock.try_acquire():
            if self._is_ours(lock.holder()):
                return
            if time.monotonic() > deadline:
                raise OrphanBackend
            time.sleep(_LOCK_PAUSE)  # a session lock is polled, never waited for
        self._held.append((connection, lock, lock.holder()))

    def _is_ours(self, session: int | None) -> bool:
        """Tell whether a session is one that this process has open. One that it has
        closed may be there for a moment still, with the lock."""
        return any(
            session == known and connection.connection is not None
            for connection, _, known in self._held
        )

    def release(self) -> None:
        """Give back a lock that does not go with a session."""
        if not self._vendor.lock_is_of_session:
            for _, lock, _ in self._held:
                lock.release()
