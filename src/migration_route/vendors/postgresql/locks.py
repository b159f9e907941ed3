"""Advisory locks on PostgreSQL, direct connections, the control of other sessions, and the
locks that a session itself holds.

One run per database and schema: the advisory locks of the session are polled. Behind a
transaction pooler, which assigns a session per transaction, an advisory lock, like every
setting of the session, would belong to no connection.
"""

from __future__ import annotations

import time
from typing import Any
from uuid import uuid4
from zlib import crc32

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from migration_route.vendors import fetch_rows
from migration_route.vendors.base import (
    LockSlot,
    ServerSessions,
    StatementProgress,
    TargetLock,
)
from migration_route.vendors.base_rehearsal import StatementEffects, StatementObserver
from migration_route.vendors.postgresql.contention import ACCESS_SHARE, blocked_by
from migration_route.vendors.sql_lexer import OLD_POSTGRESQL, POSTGRESQL, Dialect

# The first key of pg_try_advisory_lock(int, int); the second one names the schema. The
# database is part of every advisory lock (manual, 13.3.5).
_LOCK_CLASS = {
    LockSlot.SUPERVISOR: 0x6D726F75,
    LockSlot.WORKER: 0x6D726F76,
    LockSlot.REHEARSAL: 0x6D726F77,
}

# The two keys are classid and objid, unsigned, with an objsubid of 2 (manual, 53.13).
_HOLDER = """
SELECT pid, pid = pg_backend_pid() FROM pg_locks
WHERE locktype = 'advisory' AND granted AND objsubid = 2
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
AND classid = %s::bigint::oid AND objid = %s::bigint::oid
"""


class PostgreSQLLock(TargetLock):
    """A session advisory lock, never waited for in the database: a blocked waiter holds a
    snapshot and deadlocks with the holder's CREATE INDEX CONCURRENTLY."""

    def __init__(self, connection: BaseDatabaseWrapper, slot: LockSlot) -> None:
        self._connection = connection
        self._class = _LOCK_CLASS[slot]

    def try_acquire(self) -> bool:
        return self._ask("pg_try_advisory_lock")

    def release(self) -> bool:
        return self._ask("pg_advisory_unlock")

    def is_held(self) -> bool:
        try:
            _, is_ours = self._holder()
        except DatabaseError:
            return False
        return is_ours

    def holder(self) -> int | None:
        pid, _ = self._holder()
        return pid

    def _holder(self) -> tuple[int | None, bool]:
        """Return the pid of the backend that holds the lock, and whether it is this
        session."""
        with self._connection.cursor() as cursor:
            cursor.execute(_HOLDER, [self._class, self._key(cursor) % 2**32])
            row: tuple[int, bool] | None = cursor.fetchone()
        return row or (None, False)

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


_ENDS_WITHIN = 1.5  # seconds that a session may take to end after its connection
_POLL_INTERVAL = 0.02
_ROUNDS = 3
_CANARY = "migration_route.canary"
_SET = "SELECT set_config(%s, %s, false)"
_COUNT = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
_RESET_NAME = "SELECT set_config('application_name', reset_val, false) FROM pg_settings "
_RESET_NAME += "WHERE name = 'application_name'"
_SETTING = "SELECT current_setting(%s, true)"


def have_own_sessions(first: BaseDatabaseWrapper, second: BaseDatabaseWrapper) -> bool:
    """Return whether two connections that are open at once keep one backend each.

    The pids are queried in turns: a pooler assigns to the second connection the session
    that the first has just released, or, where other clients intervene, assigns another
    session to the first one next time.
    """
    pids = (_pid(first), _pid(second))
    if pids[0] == pids[1]:
        return False
    if any((_pid(first), _pid(second)) != pids for _ in range(_ROUNDS)):
        return False
    return _keeps_to_itself(first, second)


def ends_with_connection(first: BaseDatabaseWrapper, second: BaseDatabaseWrapper) -> bool:
    """Return whether nothing of a session remains once `first`, its connection, is closed.

    A pool below Django keeps the session with all of its state. A pooler in session mode
    keeps it too, but resets it. The name of the application distinguishes them: `second`
    sees it from whichever session it uses. One connection is open at a time, because a pool
    may allow no more.
    """
    canary = f"migration-route {uuid4().hex}"
    _ask(first, _SET, "application_name", canary)
    first.close()
    deadline = time.monotonic() + _ENDS_WITHIN
    try:
        while _ask(second, _COUNT, canary) != "0":
            if _ask(second, _SETTING, "application_name") == canary:
                _ask(second, _RESET_NAME)
                return False
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_INTERVAL)
        return True
    finally:
        second.close()


def _pid(connection: BaseDatabaseWrapper) -> int:
    return int(_ask(connection, "SELECT pg_backend_pid()"))


def _keeps_to_itself(first: BaseDatabaseWrapper, second: BaseDatabaseWrapper) -> bool:
    """Return whether a setting of the first connection exists there, and only there."""
    canary = uuid4().hex
    _ask(first, _SET, _CANARY, canary)
    try:
        return (
            _ask(first, _SETTING, _CANARY) == canary
            and _ask(second, _SETTING, _CANARY) != canary
        )
    finally:
        _ask(first, _SET, _CANARY, "")


def _ask(connection: BaseDatabaseWrapper, sql: str, *values: str) -> str:
    [(answer,)] = fetch_rows(connection, sql, values)
    return str(answer)


_DESCRIBE = """
SELECT usename, application_name, query, state,
to_char(coalesce(query_start, backend_start) AT TIME ZONE 'UTC',
'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), state IN ('active', 'fastpath function call')
FROM pg_stat_activity WHERE pid = %s
"""


def dialect_of_session(connection: BaseDatabaseWrapper) -> Dialect:
    """Return how the session of an open connection reads literals: the server reports
    `standard_conforming_strings` whenever it changes (manual, 55.2.7)."""
    session = connection.connection
    if session is None:
        return POSTGRESQL
    is_off = session.info.parameter_status("standard_conforming_strings") == "off"
    return OLD_POSTGRESQL if is_off else POSTGRESQL


_PROGRESS = """
SELECT phase, blocks_done, blocks_total, tuples_done, tuples_total
FROM pg_stat_progress_create_index WHERE pid = %s
UNION ALL
SELECT phase, heap_blks_scanned, heap_blks_total, 0, 0
FROM pg_stat_progress_cluster WHERE pid = %s
"""


class PostgreSQLSessions(ServerSessions):
    """Backends, which a role may signal if they are its own (manual, 9.28.2)."""

    description = _DESCRIBE

    def cancel_statement(self, pid: int) -> bool:
        """Make its statement fail with 57014."""
        return self._ask("pg_cancel_backend", pid)

    def end(self, pid: int) -> bool:
        return self._ask("pg_terminate_backend", pid)

    def progress(self, pid: int) -> StatementProgress | None:
        """Read the views of CREATE INDEX, REINDEX, CLUSTER and VACUUM FULL."""
        rows = fetch_rows(self._connection, _PROGRESS, [pid, pid])
        if not rows:
            return None
        phase, blocks_done, blocks_total, rows_done, rows_total = rows[0]
        if rows_total:
            done, total, unit = rows_done, rows_total, "rows"
        else:
            done, total, unit = blocks_done, blocks_total, "blocks"
        return StatementProgress(
            done=int(done or 0), total=int(total or 0) or None, unit=unit, phase=phase
        )

    def _ask(self, function: str, pid: int) -> bool:
        [(answer,)] = fetch_rows(self._connection, f"SELECT {function}(%s)", [pid])
        return bool(answer)


_TABLES = """
SELECT c.oid, CASE WHEN n.nspname = ANY (current_schemas(false)) THEN c.relname
ELSE n.nspname || '.' || c.relname END, c.relfilenode
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'm', 'f')
AND n.nspname NOT IN ('pg_catalog', 'information_schema')
AND n.nspname NOT LIKE 'pg_toast%' AND n.nspname NOT LIKE 'pg_temp%'
"""
# pg_locks contains the locks of a session (manual, 54.12). The session sees its own changes
# of pg_class, where a rewritten table has another file.
_LOCKS_HELD = """
SELECT l.relation, l.mode, c.relfilenode
FROM pg_locks l LEFT JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted
"""


class PostgreSQLObserver(StatementObserver):
    """Reads pg_locks through the session itself, inside its transaction."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._files: dict[int, int] = {}
        self._held: set[tuple[int, str]] = set()
        self._transaction: Any = None

    def remember(self, connection: BaseDatabaseWrapper) -> None:
        for oid, name, file in fetch_rows(connection, _TABLES):
            self._names[oid] = name
            self._files[oid] = file

    def look(self, connection: BaseDatabaseWrapper, sql: str) -> StatementEffects:
        del sql
        if not connection.in_atomic_block or connection.needs_rollback:
            return StatementEffects()  # the locks ended with the statement
        if connection.atomic_blocks[0] is not self._transaction:
            self._transaction = connection.atomic_blocks[0]
            self._held = set()
        with connection.connection.cursor() as cursor:
            cursor.execute(_LOCKS_HELD)
            rows = cursor.fetchall()
        held = {(oid, mode) for oid, mode, _ in rows if oid in self._names}
        new = held - self._held
        self._held = held
        rewrites = []
        for oid, file in {(oid, file) for oid, _, file in rows if oid in self._files}:
            if file is not None and file != self._files[oid]:
                self._files[oid] = file
                rewrites.append(self._names[oid])
        locks = sorted((self._names[oid], mode) for oid, mode in new)
        return StatementEffects(locks=tuple(locks), rewrites=tuple(sorted(rewrites)))

    def blocks(self, mode: str) -> tuple[str, ...]:
        """Return what this mode blocks; what only reads is left out."""
        return () if mode == ACCESS_SHARE else tuple(sorted(blocked_by(mode)))
