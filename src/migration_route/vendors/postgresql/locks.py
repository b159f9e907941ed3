"""One run per database and schema: advisory locks of the session, polled."""

from __future__ import annotations

from zlib import crc32

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from migration_route.vendors.interface import Slot

# The first key of pg_try_advisory_lock(int, int); the second one names the schema. The
# database is part of every advisory lock (manual, 13.3.5).
_LOCK_CLASS = {
    Slot.SUPERVISOR: 0x6D726F75,
    Slot.WORKER: 0x6D726F76,
    Slot.REHEARSAL: 0x6D726F77,
}

# The two keys stand in classid and objid, unsigned, with an objsubid of 2 (manual, 53.13).
_HOLDER = """
SELECT pid, pid = pg_backend_pid() FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 2
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND classid = %s::bigint::oid AND objid = %s::bigint::oid
"""


class PostgreSQLLock:
    """A session advisory lock. Never waited for in the database: a blocked waiter
    holds a snapshot and deadlocks with the holder's CREATE INDEX CONCURRENTLY."""

    def __init__(self, connection: BaseDatabaseWrapper, slot: Slot) -> None:
        self._connection = connection
        self._class = _LOCK_CLASS[slot]

    def try_acquire(self) -> bool:
        """Take the lock now, or return False at once."""
        return self._ask("pg_try_advisory_lock")

    def release(self) -> bool:
        """Give the lock back; False when it was not held any more."""
        return self._ask("pg_advisory_unlock")

    def is_held(self) -> bool:
        """Tell whether this session still holds it; False when the session has ended."""
        try:
            _, is_ours = self._holder()
        except DatabaseError:
            return False
        return is_ours

    def holder(self) -> int | None:
        """Return the pid of the backend that holds the lock."""
        pid, _ = self._holder()
        return pid

    def _holder(self) -> tuple[int | None, bool]:
        """Return the pid of the backend that holds the lock, and whether it is ours."""
        with self._connection.cursor() as cursor:
            cursor.execute(_HOLDER, [self._class, self._key(cursor) % 2**32])
            found: tuple[int, bool] | None = cursor.fetchone()
        return found or (None, False)

    def _ask(self, function: str) -> bool:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT {function}(%s, %s)", [self._class, self._key(cursor)])
            (answer,) = cursor.fetchone()
        return bool(answer)

    def _key(self, cursor: CursorWrapper) -> int:
        cursor.execute("SELECT coalesce(current_schema(), '')")
        (schema,) = cursor.fetchone()
        # crc32 is unsigned, the key is a signed integer of four bytes
        return int(crc32(schema.encode()) - 2**31)
