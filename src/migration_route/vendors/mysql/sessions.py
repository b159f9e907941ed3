"""Who is at work in MySQL or MariaDB, and how is a session brought to an end?"""

from __future__ import annotations

from typing import Any

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.masking import clipped
from migration_route.vendors.interface import Session
from migration_route.vendors.lexer import Dialect

_LONGEST_QUERY = 1000
_NO_SUCH_THREAD = 1094
_DESCRIBE = """
SELECT user, host, info, command, state,
date_format(utc_timestamp() - INTERVAL time SECOND, '%%Y-%%m-%%dT%%H:%%i:%%sZ')
FROM information_schema.processlist WHERE id = %s
"""


def dialect_of_session(session: Any) -> Dialect:
    """Return how an open session of the driver reads literals."""
    with session.cursor() as cursor:
        cursor.execute("SELECT @@SESSION.sql_mode")
        row = cursor.fetchone()
    (mode,) = row.values() if isinstance(row, dict) else row
    modes = str(mode.decode() if isinstance(mode, bytes) else mode).upper().split(",")
    return Dialect(
        vendor="mysql",
        backslashes="NO_BACKSLASH_ESCAPES" not in modes,
        ansi_quotes="ANSI_QUOTES" in modes,
    )


class MySQLSessions:
    """Connections, which an account may kill when they are its own."""

    are_processes = False

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection

    def describe(self, pid: int) -> Session | None:
        """Return a connection; one that is being killed is still there."""
        with self._connection.cursor() as cursor:
            cursor.execute(_DESCRIBE, [pid])
            found = cursor.fetchone()
        if found is None:
            return None
        user, host, query, command, state, since = found
        return Session(
            pid=pid,
            user=user or "",
            application=host or "",
            query=clipped(query or "", _LONGEST_QUERY),
            since=since or "",
            state=state or command or "",
            is_busy=command not in {"Sleep", "Killed"},
        )

    def cancel_statement(self, pid: int) -> bool:
        """Let its statement fail with 1317."""
        return self._kill("KILL QUERY %s", pid)

    def end(self, pid: int) -> bool:
        """End the connection."""
        return self._kill("KILL CONNECTION %s", pid)

    def _kill(self, sql: str, pid: int) -> bool:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql, [pid])
        except OperationalError as error:
            if error.args and error.args[0] == _NO_SUCH_THREAD:
                return False
            raise
        return True
