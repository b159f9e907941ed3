"""Who is at work in PostgreSQL, and how is a session brought to an end?"""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.masking import clipped
from migration_route.vendors.interface import Session
from migration_route.vendors.lexer import OLD_POSTGRESQL, POSTGRESQL, Dialect

_LONGEST_QUERY = 1000
_DESCRIBE = """
SELECT usename, application_name, query, state,
to_char(coalesce(query_start, backend_start) AT TIME ZONE 'UTC',
'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
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


class PostgreSQLSessions:
    """Backends, which a role may signal when they are its own (manual, 9.28.2)."""

    are_processes = False

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection

    def describe(self, pid: int) -> Session | None:
        """Return a backend."""
        with self._connection.cursor() as cursor:
            cursor.execute(_DESCRIBE, [pid])
            found = cursor.fetchone()
        if found is None:
            return None
        user, application, query, state, since = found
        return Session(
            pid=pid,
            user=user or "",
            application=application or "",
            query=clipped(query or "", _LONGEST_QUERY),
            since=since or "",
            state=state or "",
            is_busy=state in {"active", "fastpath function call"},
        )

    def cancel_statement(self, pid: int) -> bool:
        """Let its statement fail with 57014."""
        return self._ask("pg_cancel_backend", pid)

    def end(self, pid: int) -> bool:
        """End the backend."""
        return self._ask("pg_terminate_backend", pid)

    def _ask(self, function: str, pid: int) -> bool:
        with self._connection.cursor() as cursor:
            cursor.execute(f"SELECT {function}(%s)", [pid])
            (answer,) = cursor.fetchone()
        return bool(answer)
