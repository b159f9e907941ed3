"""Named locks on MySQL and MariaDB, blocking sessions, and the control of other sessions.

One run per database: the server releases GET_LOCK with its connection.
"""

from __future__ import annotations

import hashlib
import math
import time
from typing import Any
from uuid import uuid4

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from migration_route.core.errors import Misconfigured
from migration_route.vendors import fetch_rows
from migration_route.vendors.base import (
    Blocker,
    LockInspector,
    LockRequest,
    LockSlot,
    LockTimeoutClass,
    ServerSessions,
    TableLockRequest,
    TargetLock,
)
from migration_route.vendors.mysql.catalog import text_of
from migration_route.vendors.sql_lexer import MYSQL, Dialect
from migration_route.vendors.sql_statements import code_of, first_word, names_in

_CODES = frozenset({1205, 1213})  # lock wait timeout, deadlock
_WORDS = 500
_FIRST_WORDS = frozenset(
    ("alter", "create", "drop", "truncate", "rename", "optimize", "repair", "lock")
)
_OTHER = LockRequest(limit=LockTimeoutClass.NONE)
# Every definition of a table requests this at some point (manual, Metadata Locking).
EXCLUSIVE = "EXCLUSIVE"

_SESSION = """
SELECT p.id, '', coalesce(p.user, ''), coalesce(p.info, x.trx_query, ''),
       date_format(convert_tz(x.trx_started, @@session.time_zone, '+00:00'),
                   '%%Y-%%m-%%dT%%H:%%i:%%s.000000Z'),
       greatest(coalesce(timestampdiff(SECOND, x.trx_started, now()), p.time), 0),
       lower(CASE WHEN p.command = 'Sleep' THEN 'idle in transaction' ELSE p.command END)
FROM information_schema.processlist p
LEFT JOIN information_schema.innodb_trx x ON x.trx_mysql_thread_id = p.id
"""
# MySQL, and MariaDB with the performance schema enabled.
_BY_SCHEMA = """
WHERE p.id <> connection_id() AND p.id IN (
    SELECT t.processlist_id FROM performance_schema.metadata_locks m
    JOIN performance_schema.threads t ON t.thread_id = m.owner_thread_id
    WHERE m.object_type = 'TABLE' AND m.lock_status = 'GRANTED'
      AND m.object_schema = database() AND m.object_name IN %s)
"""
# MariaDB with its plugin `metadata_lock_info`.
_BY_PLUGIN = """
WHERE p.id <> connection_id() AND p.id IN (
    SELECT thread_id FROM information_schema.metadata_lock_info
    WHERE lock_type = 'Table metadata lock'
      AND table_schema = database() AND table_name IN %s)
"""
_BY_AGE = " WHERE p.id <> connection_id() AND x.trx_id IS NOT NULL"
_OPEN_HERE = _BY_AGE + " AND p.db = database()"
_SCHEMA_IS_ON = """
SELECT 1 FROM performance_schema.setup_instruments
WHERE name = 'wait/lock/metadata/sql/mdl' AND enabled = 'YES' AND @@performance_schema
"""
_PLUGIN_IS_ON = """
SELECT 1 FROM information_schema.plugins
WHERE plugin_name = 'METADATA_LOCK_INFO' AND plugin_status = 'ACTIVE'
"""


class MySQLContention(LockInspector):
    """Metadata locks where the server shows them, otherwise InnoDB's old transactions."""

    def lock_request(self, sql: str) -> LockRequest:
        """Return the locks of definitions, which commit by themselves."""
        odd = sql.lstrip().startswith(("--", "/*", "#"))
        if first_word(sql) not in _FIRST_WORDS and not odd:
            return _OTHER
        names = set()
        for code in code_of(sql, MYSQL):
            if first_word(code) in _FIRST_WORDS:
                names |= {(name, EXCLUSIVE) for name in names_in(code)}
        limit = LockTimeoutClass.SHORT if names else LockTimeoutClass.NONE
        return LockRequest(limit=limit, names=frozenset(names))

    def is_contention(self, error: BaseException) -> bool:
        return bool(error.args) and error.args[0] in _CODES

    def limit(self, connection: BaseDatabaseWrapper, seconds: float | None) -> None:
        """Set the timeouts for metadata locks and row locks, in whole seconds, at least
        one; None: the server's default."""
        value = "DEFAULT" if seconds is None else str(max(math.ceil(seconds), 1))
        with connection.wrap_database_errors, connection.connection.cursor() as cursor:
            cursor.execute(
                f"SET SESSION lock_wait_timeout = {value}, "
                f"SESSION innodb_lock_wait_timeout = {value}"
            )

    def session(self, connection: BaseDatabaseWrapper) -> int:
        return int(connection.connection.thread_id())

    def tables(
        self, connection: BaseDatabaseWrapper, request: LockRequest
    ) -> tuple[TableLockRequest, ...]:
        """Resolve the names in the connection's database."""
        names = sorted({name[-1] for name, _ in request.names})
        if not names:
            return ()
        query = (
            "SELECT table_name FROM information_schema.tables "
            "WHERE table_schema = database() AND table_name IN %s"
        )
        with connection.wrap_database_errors, connection.connection.cursor() as cursor:
            cursor.execute(query, [tuple(names)])
            rows = cursor.fetchall()
        return tuple(
            TableLockRequest(table=text_of(table), mode=EXCLUSIVE) for (table,) in rows
        )

    def observes(self, connection: BaseDatabaseWrapper) -> bool:
        """Return whether this server shows metadata locks to this user."""
        return self._query(connection) is not None

    def _query(self, connection: BaseDatabaseWrapper) -> str | None:
        for question, query in ((_SCHEMA_IS_ON, _BY_SCHEMA), (_PLUGIN_IS_ON, _BY_PLUGIN)):
            try:
                if fetch_rows(connection, question):
                    return query
            except DatabaseError:
                continue  # this server has no such table, or this user may not read it
        return None

    def blockers_of(
        self, connection: BaseDatabaseWrapper, wanted: tuple[TableLockRequest, ...]
    ) -> list[Blocker]:
        """Return the sessions that hold metadata locks on these tables; where locks are not
        visible, every open transaction, since each may hold one."""
        names = tuple(sorted({want.table for want in wanted}))
        query = self._query(connection)
        if query is not None and not names:
            return []
        if query is None:
            rows = fetch_rows(connection, (_SESSION + _BY_AGE).replace("%%", "%"))
        else:
            rows = fetch_rows(connection, _SESSION + query, [names])
        found = [_blocker(row, certain=query is not None) for row in rows]
        return sorted(found, key=lambda blocker: -blocker.age)

    def open_transactions(self, connection: BaseDatabaseWrapper) -> list[Blocker]:
        rows = fetch_rows(connection, (_SESSION + _OPEN_HERE).replace("%%", "%"))
        return [_blocker(row, certain=False) for row in rows]

    def end(self, connection: BaseDatabaseWrapper, blocker: Blocker) -> bool:
        """Kill the connection with this id; ids are never reused."""
        return _kill("KILL CONNECTION %s", blocker.pid, connection)


def _blocker(row: tuple[Any, ...], *, certain: bool) -> Blocker:
    pid, application, user, query, since, age, state = row
    return Blocker(
        pid=int(pid),
        user=text_of(user),
        application=text_of(application),
        query=text_of(query)[:_WORDS],
        since=text_of(since or ""),
        state=text_of(state),
        begun=str(pid),
        age=float(age),
        key=f"{pid} {since or ''}",
        is_server=text_of(user) in {"system user", "event_scheduler"},
        certain=certain,
    )


_DATABASE = "SELECT DATABASE(), @@GLOBAL.lower_case_table_names"
_ENDS_WITHIN = 1.5  # seconds that a session may take to end after its connection
_POLL_INTERVAL = 0.02


class MySQLLock(TargetLock):
    """A named lock of the session; its name has at most 64 characters."""

    def __init__(self, connection: BaseDatabaseWrapper, slot: LockSlot) -> None:
        self._connection = connection
        self._slot = slot
        self._known_name = ""

    def try_acquire(self) -> bool:
        return self._ask("SELECT GET_LOCK(%s, 0)")

    def release(self) -> bool:
        return self._ask("SELECT RELEASE_LOCK(%s)")

    def is_held(self) -> bool:
        try:
            return self._ask("SELECT IS_USED_LOCK(%s) = CONNECTION_ID()")
        except DatabaseError:
            return False

    def holder(self) -> int | None:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT IS_USED_LOCK(%s)", [self._name(cursor)])
            (pid,) = cursor.fetchone()
        return None if pid is None else int(pid)

    def _ask(self, sql: str) -> bool:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, [self._name(cursor)])
            (answer,) = cursor.fetchone()
        return bool(answer == 1)

    def _name(self, cursor: CursorWrapper) -> str:
        """Return the name of the lock, derived from the server's name of the database.

        Aliases with other settings for the same database share it. Raises `Misconfigured`
        if the connection has no database.
        """
        if not self._known_name:
            cursor.execute(_DATABASE)
            database, folds = cursor.fetchone()
            if database is None:
                raise Misconfigured(
                    f"The alias {self._connection.alias!r} leads to a server, but to no "
                    "database there.",
                    hint="Set the database in NAME, or as database= in its option file.",
                )
            text = text_of(database).lower() if int(folds) else text_of(database)
            digest = hashlib.sha256(text.encode()).hexdigest()[:32]
            self._known_name = f"migration-route:{self._slot.value}:{digest}"
        return self._known_name


def lock_ends_with_connection(
    first: BaseDatabaseWrapper, second: BaseDatabaseWrapper
) -> bool:
    """Return whether a lock is free once `first`, the connection that took it, is closed.

    A pool below Django keeps the session, and the lock with it. `second` detects that from
    whichever session it uses. One connection is open at a time, because a pool may allow no
    more.
    """
    canary = f"migration-route:{uuid4().hex}"
    _value(first, "SELECT GET_LOCK(%s, 0)", canary)
    first.close()
    deadline = time.monotonic() + _ENDS_WITHIN
    try:
        while _value(second, "SELECT IS_USED_LOCK(%s)", canary) is not None:
            if _value(second, "SELECT RELEASE_LOCK(%s)", canary) == 1:
                return False  # it uses the same session
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_INTERVAL)
        return True
    finally:
        second.close()


def _value(connection: BaseDatabaseWrapper, sql: str, name: str) -> object:
    [(answer,)] = fetch_rows(connection, sql, [name])
    return answer


_NO_SUCH_THREAD = 1094
_DESCRIBE = """
SELECT user, host, info, coalesce(nullif(state, ''), command),
date_format(utc_timestamp() - INTERVAL time SECOND, '%%Y-%%m-%%dT%%H:%%i:%%sZ'),
command NOT IN ('Sleep', 'Killed')
FROM information_schema.processlist WHERE id = %s
"""


def dialect_of_session(session: Any) -> Dialect:
    with session.cursor() as cursor:
        cursor.execute("SELECT @@SESSION.sql_mode")
        row = cursor.fetchone()
    (mode,) = row.values() if isinstance(row, dict) else row
    modes = text_of(mode).upper().split(",")
    return Dialect(
        vendor="mysql",
        backslashes="NO_BACKSLASH_ESCAPES" not in modes,
        ansi_quotes="ANSI_QUOTES" in modes,
    )


class MySQLSessions(ServerSessions):
    """Connections, which an account may kill if they are its own; one that is being killed
    still exists."""

    description = _DESCRIBE

    def cancel_statement(self, pid: int) -> bool:
        """Make its statement fail with 1317."""
        return _kill("KILL QUERY %s", pid, self._connection)

    def end(self, pid: int) -> bool:
        return _kill("KILL CONNECTION %s", pid, self._connection)


def _kill(sql: str, pid: int, connection: BaseDatabaseWrapper) -> bool:
    """Send a statement that ends another session; return False if that is gone."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql, [pid])
    except DatabaseError as error:
        if error.args and error.args[0] == _NO_SUCH_THREAD:
            return False
        raise
    return True
