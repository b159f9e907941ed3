"""The database session of a worker. It can outlive its process, and what it still executes
counts.
"""

from __future__ import annotations

import time

from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf.databases import ANSWER_TIMEOUT, private_connection
from migration_route.core import clock
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot, Session, Sessions, TargetLock

_PAUSE = 0.05
_RETRY = 1.0  # seconds before a session that has not ended is terminated again


class LockHolder:
    """The session that holds one of the two locks of a database.

    It is inspected and terminated through a separate connection, opened when needed. Every
    method raises `django.db.Error` if the database does not answer, and may be called again
    then.
    """

    def __init__(self, database: str, slot: LockSlot = LockSlot.WORKER) -> None:
        self._database = database
        self._slot = slot
        self._connection: BaseDatabaseWrapper | None = None

    def pid(self) -> int | None:
        """Return the pid of the session; None if there is none."""
        try:
            return self._lock().holder()
        except DatabaseFailure:
            self.close()
            raise

    def describe(self) -> Session | None:
        """Return the session; None if there is none."""
        pid = self.pid()
        return None if pid is None else self._sessions().describe(pid)

    def cancel_statement(self) -> None:
        """Cancel the current statement of the session, if it executes one."""
        found = self.describe()
        if found is not None and found.is_busy:
            self._sessions().cancel_statement(found.pid)

    def end(self, *, within: float) -> bool:
        """Terminate the session; return whether it has ended within so many seconds."""
        deadline = time.monotonic() + within
        while (pid := self.pid()) is not None:
            self._sessions().end(pid)
            left = deadline - time.monotonic()
            if self.is_gone(within=min(_RETRY, left)):
                return True
            if time.monotonic() > deadline:
                return False
        return True

    def is_gone(self, *, within: float) -> bool:
        """Return whether it ends by itself within so many seconds."""
        return clock.wait_until(lambda: self.pid() is None, within=within, pause=_PAUSE)

    def _opened(self) -> BaseDatabaseWrapper:
        if self._connection is None:
            self._connection = private_connection(
                self._database, answer_timeout=ANSWER_TIMEOUT
            )
        return self._connection

    def _lock(self) -> TargetLock:
        return vendor_of(self._database).lock(self._opened(), self._slot)

    def _sessions(self) -> Sessions:
        return vendor_of(self._database).sessions(self._opened())

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
