"""Is the session that a run's worker had in the database still there? It outlives its
process, and what it still does counts.
"""

from __future__ import annotations

import time

from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf.databases import ANSWER_TIMEOUT, private_connection
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot, Session, Sessions, TargetLock

_PAUSE = 0.05
_AGAIN = 1.0  # seconds until a session that does not go is ended once more


class LockHolder:
    """The session that holds one of the two locks of a database.

    It is looked at, and ended, through a connection of its own, which is made when it
    is needed. Everything here raises `django.db.Error` where the database does not
    answer, and may be called again then.
    """

    def __init__(self, database: str, slot: LockSlot = LockSlot.WORKER) -> None:
        self._database = database
        self._slot = slot
        self._connection: BaseDatabaseWrapper | None = None

    def pid(self) -> int | None:
        """Return the pid of the session; None when there is none."""
        try:
            return self._lock().holder()
        except DatabaseFailure:
            self.close()
            raise

    def describe(self) -> Session | None:
        """Return the session; None when there is none."""
        pid = self.pid()
        return None if pid is None else self._sessions().describe(pid)

    def cancel_statement(self) -> None:
        """Let the statement fail that it is at, if it is at one."""
        found = self.describe()
        if found is not None and found.is_busy:
            self._sessions().cancel_statement(found.pid)

    def end(self, *, within: float) -> bool:
        """End the session, and return whether it is gone within so many seconds."""
        deadline = time.monotonic() + within
        while (pid := self.pid()) is not None:
            self._sessions().end(pid)
            again = min(time.monotonic() + _AGAIN, deadline)
            if self._goes(until=again):
                return True
            if time.monotonic() > deadline:
                return False
        return True

    def is_gone(self, *, within: float) -> bool:
        """Tell whether it goes by itself within so many seconds."""
        return self._goes(until=time.monotonic() + within)

    def _goes(self, *, until: float) -> bool:
        while self.pid() is not None:
            if time.monotonic() > until:
                return False
            time.sleep(_PAUSE)
        return True

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
        """End the connection through which it is looked at."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
