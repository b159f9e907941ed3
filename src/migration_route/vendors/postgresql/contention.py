"""Who is in the way of a statement on PostgreSQL, and how long may it wait?"""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.interface import Blocker, Wanted, Wish
from migration_route.vendors.postgresql.wishes import ROW_EXCLUSIVE, conflict, wish_of

_CODES = frozenset({"55P03", "40P01", "40001"})  # lock timeout, deadlock, serialisation
_WORDS = 500  # characters of a query that are shown

_TABLES = """
WITH RECURSIVE named AS (
    SELECT coalesce(i.indrelid, c.oid) AS oid, n.mode
    FROM unnest(%s::text[], %s::text[]) AS n(name, mode)
    JOIN pg_class c ON c.oid = to_regclass(n.name)
    LEFT JOIN pg_index i ON i.indexrelid = c.oid
    WHERE c.relnamespace <> 'pg_catalog'::regnamespace
), reached AS (
    SELECT oid, mode FROM named
    UNION SELECT i.inhrelid, r.mode FROM reached r JOIN pg_inherits i ON i.inhparent = r.oid
), wanted AS (
    SELECT oid, mode FROM reached
    UNION SELECT f.confrelid, r.mode FROM reached r
    JOIN pg_constraint f ON f.conrelid = r.oid AND f.contype = 'f' AND %s
)
SELECT DISTINCT s.nspname || '.' || c.relname, w.mode
FROM wanted w JOIN pg_class c ON c.oid = w.oid JOIN pg_namespace s ON s.oid = c.relnamespace
ORDER BY 1
"""
# What was granted, to sessions and to prepared transactions, on these tables.
_HOLDERS = """
SELECT l.pid, s.nspname || '.' || c.relname, l.mode, l.virtualtransaction,
       coalesce(a.usename, p.owner, ''), coalesce(a.application_name, ''),
       coalesce(a.query, 'PREPARE TRANSACTION ' || quote_literal(p.gid), ''),
       to_char(coalesce(a.xact_start, p.prepared) AT TIME ZONE 'UTC',
               'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       coalesce(extract(epoch FROM clock_timestamp()
                        - coalesce(a.xact_start, p.prepared)), 0)::float8,
       coalesce(a.state, CASE WHEN p.gid IS NULL THEN '' ELSE 'prepared' END),
       coalesce(a.backend_start::text, ''), coalesce(a.backend_type, '')
FROM pg_locks l
JOIN pg_class c ON c.oid = l.relation
JOIN pg_namespace s ON s.oid = c.relnamespace
LEFT JOIN pg_stat_activity a ON a.pid = l.pid
LEFT JOIN pg_prepared_xacts p
       ON l.pid IS NULL AND l.virtualtransaction = '-1/' || p.transaction::text
WHERE l.locktype = 'relation' AND l.granted
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.pid IS DISTINCT FROM pg_backend_pid()
  AND s.nspname || '.' || c.relname = ANY(%s)
"""


class PostgreSQLContention:
    """Locks as `pg_locks` shows them to everybody; texts as far as the role may see."""

    def wish(self, sql: str) -> Wish:
        """Tell what a statement wants."""
        return wish_of(sql)

    def is_contention(self, error: BaseException) -> bool:
        """Tell a lock timeout, a deadlock or a serialisation failure."""
        cause = error.__cause__ or error
        code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        return code in _CODES

    def limit(self, connection: BaseDatabaseWrapper, seconds: float | None) -> None:
        """Set `lock_timeout`, whose 0 means none."""
        milliseconds = 0 if seconds is None else max(round(seconds * 1000), 1)
        with connection.wrap_database_errors, connection.connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {milliseconds}")

    def session(self, connection: BaseDatabaseWrapper) -> int:
        """Return the pid of the backend."""
        return int(connection.connection.info.backend_pid)

    def tables(self, connection: BaseDatabaseWrapper, wish: Wish) -> tuple[Wanted, ...]:
        """Look the names up along the search path, with partitions and parents."""
        if not wish.names:
            return ()
        names = [".".join(_quoted(part) for part in name[-2:]) for name, _ in wish.names]
        modes = [mode for _, mode in wish.names]
        with connection.wrap_database_errors, connection.connection.cursor() as cursor:
            cursor.execute(_TABLES, [names, modes, wish.reaches_parents])
            return tuple(Wanted(table=table, mode=mode) for table, mode in cursor)

    def observes(self, connection: BaseDatabaseWrapper) -> bool:
        """Tell that everybody can see who holds which lock."""
        del connection
        return True

    def in_the_way(
        self, connection: BaseDatabaseWrapper, wanted: tuple[Wanted, ...]
    ) -> list[Blocker]:
        """Return the holders of conflicting locks, each once, the oldest first."""
        if not wanted:
            return []
        with connection.cursor() as cursor:
            cursor.execute(_HOLDERS, [sorted({want.table for want in wanted})])
            rows = cursor.fetchall()
        found = {
            row[3]: _blocker(row)
            for row in rows
            if any(want.table == row[1] and conflict(want.mode, row[2]) for want in wanted)
        }
        return sorted(found.values(), key=lambda blocker: -blocker.age)

    def yield_time(self, connection: BaseDatabaseWrapper) -> float:
        """Return `deadlock_timeout`: only then does a waiter cancel an autovacuum."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT setting::float8 / 1000 FROM pg_settings "
                "WHERE name = 'deadlock_timeout'"
            )
            (seconds,) = cursor.fetchone()
        return float(seconds)

    def blocks_others(self, wanted: tuple[Wanted, ...]) -> bool:
        """Tell whether one of these keeps writers waiting."""
        return any(conflict(want.mode, ROW_EXCLUSIVE) for want in wanted)

    def end(self, connection: BaseDatabaseWrapper, blocker: Blocker) -> bool:
        """Terminate the backend that bears this pid since then."""
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid = %s AND backend_start::text = %s",
                [blocker.pid, blocker.begun],
            )
            row = cursor.fetchone()
        return bool(row and row[0])


def _blocker(row: tuple[Any, ...]) -> Blocker:
    pid, _, _, transaction, user, application, query, since, age, state, begun, kind = row
    vacuums = kind == "autovacuum worker"
    return Blocker(
        pid=pid or 0,  # a prepared transaction belongs to no session any more
        user=user,
        application=application,
        query=query[:_WORDS],
        since=since or "",
        state=state,
        begun=begun,
        age=age,
        key=transaction,
        yields=vacuums and "to prevent wraparound" not in query,
        is_server=pid is None or kind not in {"client backend", ""},
    )


def _quoted(part: str) -> str:
    return '"' + part.replace('"', '""') + '"'
