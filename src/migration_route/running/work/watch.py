"""Who is in the way right now? Asked past the migration, on a session of its own.

The migration's session would see the sessions of others as they were when its
transaction began.
"""

from __future__ import annotations

import time

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.connecting import new_connection
from migration_route.vendors.interface import Blocker, Contention, Wanted


class Watch:
    """Looks at the locks of one database; opened by the first look."""

    def __init__(self, database: str, contention: Contention) -> None:
        # Not what `connections` gives: neither the settings of the worker's session nor
        # its lock belong here.
        self._connection = new_connection(database)
        self._contention = contention
        self._observes: bool | None = None
        self._yield_time: float | None = None
        self._seen: dict[str, float] = {}  # transactions whose age is hidden

    def holds_back(
        self,
        session: BaseDatabaseWrapper,
        wanted: tuple[Wanted, ...],
        *,
        older_than: float,
    ) -> tuple[list[Blocker], float]:
        """Return who would let a statement wait in vain, and how many seconds more than
        usual the statement needs for a vacuum to give way.

        A young transaction will be gone soon: a short wait in the queue is enough.
        """
        if not self._can_observe():
            return [], 0.0
        found = [
            blocker
            for blocker in self.look(session, wanted)
            if self._age(blocker) > older_than
        ]
        if found and all(blocker.yields for blocker in found):
            return [], self._time_to_yield()
        return [blocker for blocker in found if not blocker.yields], 0.0

    def look(
        self, session: BaseDatabaseWrapper, wanted: tuple[Wanted, ...]
    ) -> list[Blocker]:
        """Return who holds conflicting locks, but for `session`, the migration's own.

        What cannot be seen now holds nothing back: the statement has its limit.
        """
        own = self._contention.session(session)
        try:
            found = self._contention.in_the_way(self._connection, wanted)
        except DatabaseError:
            self._connection.close()
            return []
        return [blocker for blocker in found if blocker.pid != own]

    def close(self) -> None:
        """End the session."""
        self._connection.close()

    def _can_observe(self) -> bool:
        if self._observes is None:
            try:
                self._observes = self._contention.observes(self._connection)
            except DatabaseError:
                self._connection.close()
                return False
        return self._observes

    def _age(self, blocker: Blocker) -> float:
        if blocker.since:
            return blocker.age
        now = time.monotonic()
        return now - self._seen.setdefault(blocker.key, now)

    def _time_to_yield(self) -> float:
        if self._yield_time is None:
            self._yield_time = self._contention.yield_time(self._connection)
        return self._yield_time
