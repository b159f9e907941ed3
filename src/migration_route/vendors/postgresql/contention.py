"""The locks that statements take on PostgreSQL, what conflicts with them, and how long a
statement may wait.

After the manual: "Explicit Locking", table 13.2, and the pages of the statements. In doubt
the stronger lock is assumed, and more sessions are reported than may block.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.values import Blocked
from migration_route.vendors import fetch_rows
from migration_route.vendors.base import (
    Blocker,
    LockInspector,
    LockRequest,
    LockTimeoutClass,
    TableLockRequest,
)
from migration_route.vendors.sql_lexer import POSTGRESQL
from migration_route.vendors.sql_statements import (
    NAME,
    code_of,
    first_word,
    names_after,
    names_in,
    quoted,
)

ACCESS_SHARE = "AccessShareLock"
ROW_SHARE = "RowShareLock"
ROW_EXCLUSIVE = "RowExclusiveLock"
SHARE_UPDATE = "ShareUpdateExclusiveLock"
SHARE = "ShareLock"
SHARE_ROW = "ShareRowExclusiveLock"
EXCLUSIVE = "ExclusiveLock"
ACCESS_EXCLUSIVE = "AccessExclusiveLock"

_MODES = (
    ACCESS_SHARE,
    ROW_SHARE,
    ROW_EXCLUSIVE,
    SHARE_UPDATE,
    SHARE,
    SHARE_ROW,
    EXCLUSIVE,
    ACCESS_EXCLUSIVE,
)
# Each mode with those that it conflicts with, as positions in the list above.
_CONFLICTS = {
    ACCESS_SHARE: (7,),
    ROW_SHARE: (6, 7),
    ROW_EXCLUSIVE: (4, 5, 6, 7),
    SHARE_UPDATE: (3, 4, 5, 6, 7),
    SHARE: (2, 3, 5, 6, 7),
    SHARE_ROW: (2, 3, 4, 5, 6, 7),
    EXCLUSIVE: (1, 2, 3, 4, 5, 6, 7),
    ACCESS_EXCLUSIVE: (0, 1, 2, 3, 4, 5, 6, 7),
}
_ALTER = rf"ALTER TABLE (?:IF EXISTS )?(?:ONLY )?{NAME}"
_COLUMNS = r" ?\([^()]*\)"
# The first match determines the mode; rules for the same words are adjacent.
_RULES = tuple(
    (re.compile(pattern, re.IGNORECASE), mode)
    for pattern, mode in (
        (rf"{_ALTER} VALIDATE CONSTRAINT {NAME}$", SHARE_UPDATE),
        (rf"{_ALTER} ALTER (?:COLUMN )?{NAME} SET STATISTICS [-\d ]+$", SHARE_UPDATE),
        (rf"{_ALTER} ALTER (?:COLUMN )?{NAME} (?:RE)?SET{_COLUMNS}$", SHARE_UPDATE),
        (rf"{_ALTER} (?:RE)?SET(?!.*user_catalog_table){_COLUMNS}$", SHARE_UPDATE),
        (rf"{_ALTER} (?:CLUSTER ON {NAME}|SET WITHOUT CLUSTER)$", SHARE_UPDATE),
        (
            rf"{_ALTER} ADD (?:CONSTRAINT {NAME} )?FOREIGN KEY{_COLUMNS} "
            rf"REFERENCES {NAME}(?:{_COLUMNS})?[\w ]*$",
            SHARE_ROW,
        ),
        (
            rf"{_ALTER} (?:ENABLE|DISABLE)(?: REPLICA| ALWAYS)? TRIGGER {NAME}$",
            SHARE_ROW,
        ),
        (rf"ALTER INDEX (?:IF EXISTS )?{NAME} RENAME TO {NAME}$", SHARE_UPDATE),
        (rf"ALTER INDEX (?:IF EXISTS )?{NAME} (?:RE)?SET{_COLUMNS}$", SHARE_UPDATE),
        (r"ALTER (?:TABLE|INDEX|(?:MATERIALIZED )?VIEW|FOREIGN TABLE)\b", ACCESS_EXCLUSIVE),
        (r"ALTER SEQUENCE\b", SHARE_ROW),
        (r"CREATE (?:UNIQUE )?INDEX\b", SHARE),
        (r"CREATE (?:OR REPLACE )?(?:CONSTRAINT )?TRIGGER\b", SHARE_ROW),
        (r"CREATE (?:OR REPLACE )?(?:RULE|POLICY)\b", ACCESS_EXCLUSIVE),
        (r"CREATE .*\bPARTITION OF\b", ACCESS_EXCLUSIVE),
        (r"CREATE STATISTICS\b|COMMENT ON\b", SHARE_UPDATE),
        (r"(?:CREATE|ALTER)\b", ACCESS_SHARE),
        (r"DROP (?:TYPE|FUNCTION|SCHEMA|EXTENSION|DOMAIN)\b", ACCESS_SHARE),
        (r"(?:DROP|TRUNCATE|CLUSTER)\b|VACUUM (?:\(|FULL\b)", ACCESS_EXCLUSIVE),
        # SHARE on the table, but no query can be planned without its indexes.
        (r"REINDEX\b", ACCESS_EXCLUSIVE),
        (r"REFRESH MATERIALIZED VIEW CONCURRENTLY\b", EXCLUSIVE),
        (r"REFRESH\b", ACCESS_EXCLUSIVE),
        (r"DO\b.*\b(?:ALTER|CREATE|DROP|TRUNCATE|LOCK)\b", ACCESS_EXCLUSIVE),
    )
)
_DROPS_KEYS = re.compile(
    r"DROP TABLE\b|TRUNCATE\b|ALTER TABLE\b.*\b(?:DROP|TYPE)\b", re.IGNORECASE
)
_LOCK = re.compile(r"LOCK\b(?:.*\bIN ([A-Z ]+) MODE\b)?", re.IGNORECASE)
_CONCURRENTLY = re.compile(
    r"(?:CREATE|DROP|REINDEX|ALTER)\b(?!.*\bVIEW\b).*\bCONCURRENTLY\b", re.IGNORECASE
)
_FIRST_WORDS = frozenset(
    (
        "alter",
        "create",
        "drop",
        "truncate",
        "cluster",
        "vacuum",
        "reindex",
        "refresh",
        "comment",
        "lock",
        "do",
    )
)
_OTHER = LockRequest(limit=LockTimeoutClass.NONE)


def is_conflict(wanted: str, held: str) -> bool:
    """Return whether a request for this mode waits for a holder of that mode."""
    return _MODES.index(held) in _CONFLICTS[wanted] if held in _MODES else False


_WHO = (
    (Blocked.READS, ACCESS_SHARE),
    (Blocked.WRITES, ROW_EXCLUSIVE),
    (Blocked.SCHEMA_CHANGES, ACCESS_EXCLUSIVE),
)


def blocked_by(mode: str) -> frozenset[Blocked]:
    """Return what waits while this mode is held. Most schema changes request the strongest
    mode, so that they wait for every mode."""
    return frozenset(who for who, wanted in _WHO if is_conflict(wanted, mode))


def lock_request_for(sql: str) -> LockRequest:
    if (
        first_word(sql) not in _FIRST_WORDS
        and ";" not in sql
        and not _starts_with_comment(sql)
    ):
        return _OTHER
    return _read(sql)


def _starts_with_comment(sql: str) -> bool:
    return sql.lstrip().startswith(("--", "/*"))


@lru_cache(maxsize=256)
def _read(sql: str) -> LockRequest:
    names: set[tuple[tuple[str, ...], str]] = set()
    limit, parents = LockTimeoutClass.NONE, False
    for code in code_of(sql, POSTGRESQL):
        if _CONCURRENTLY.match(code):
            return LockRequest(limit=LockTimeoutClass.NONE, may_repeat=False)
        mode = mode_of(code)
        if mode is None:
            continue
        limit = LockTimeoutClass.SHORT
        referred = names_after("REFERENCES", code)
        names |= {(name, mode) for name in names_in(code) - referred}
        names |= {(name, SHARE_ROW) for name in referred}
        parents = parents or (mode == ACCESS_EXCLUSIVE and _drops(code))
    return LockRequest(limit=limit, names=frozenset(names), reaches_parents=parents)


def strongest(one: str, other: str) -> str:
    """Return the weakest mode that blocks all that either of these two blocks."""
    if {one, other} == {SHARE, SHARE_UPDATE}:
        return SHARE_ROW  # neither of them blocks all that the other one does
    return max(one, other, key=_MODES.index)


def mode_of(code: str) -> str | None:
    """Return the mode in which a statement, without comments and literals, locks the tables
    that it is about; None if it is not a definition."""
    if found := _LOCK.match(code):
        words = (found[1] or "ACCESS EXCLUSIVE").title().replace(" ", "")
        return f"{words}Lock" if f"{words}Lock" in _MODES else ACCESS_EXCLUSIVE
    return next((mode for pattern, mode in _RULES if pattern.match(code)), None)


def _drops(code: str) -> bool:
    return _DROPS_KEYS.match(code) is not None


_CODES = frozenset({"55P03", "40P01", "40001"})  # lock timeout, deadlock, serialization
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
# The locks on these tables that sessions and prepared transactions hold.
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


class PostgreSQLContention(LockInspector):
    """Locks from `pg_locks`, open to every role; queries if the role may see them."""

    def lock_request(self, sql: str) -> LockRequest:
        return lock_request_for(sql)

    def is_contention(self, error: BaseException) -> bool:
        """Detect a lock timeout, a deadlock or a serialization failure."""
        cause = error.__cause__ or error
        code = getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)
        return code in _CODES

    def limit(self, connection: BaseDatabaseWrapper, seconds: float | None) -> None:
        """Set `lock_timeout`, whose 0 means none."""
        milliseconds = 0 if seconds is None else max(round(seconds * 1000), 1)
        with connection.wrap_database_errors, connection.connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {milliseconds}")

    def session(self, connection: BaseDatabaseWrapper) -> int:
        return int(connection.connection.info.backend_pid)

    def tables(
        self, connection: BaseDatabaseWrapper, request: LockRequest
    ) -> tuple[TableLockRequest, ...]:
        """Resolve the names along the search path, with partitions and parents."""
        if not request.names:
            return ()
        names = [quoted(*name[-2:]) for name, _ in request.names]
        modes = [mode for _, mode in request.names]
        with connection.wrap_database_errors, connection.connection.cursor() as cursor:
            cursor.execute(_TABLES, [names, modes, request.reaches_parents])
            return tuple(TableLockRequest(table=table, mode=mode) for table, mode in cursor)

    def blockers_of(
        self, connection: BaseDatabaseWrapper, wanted: tuple[TableLockRequest, ...]
    ) -> list[Blocker]:
        """Return the holders of conflicting locks, each once, the oldest first."""
        if not wanted:
            return []
        names = sorted({want.table for want in wanted})
        rows = fetch_rows(connection, _HOLDERS, [names])
        found = {
            row[3]: _blocker(row)
            for row in rows
            if any(
                want.table == row[1] and is_conflict(want.mode, row[2]) for want in wanted
            )
        }
        return sorted(found.values(), key=lambda blocker: -blocker.age)

    def yield_time(self, connection: BaseDatabaseWrapper) -> float:
        """Return `deadlock_timeout`: a waiter cancels an autovacuum only after it."""
        [(seconds,)] = fetch_rows(
            connection,
            "SELECT setting::float8 / 1000 FROM pg_settings "
            "WHERE name = 'deadlock_timeout'",
        )
        return float(seconds)

    def blocks_readers_or_writers(self, wanted: tuple[TableLockRequest, ...]) -> bool:
        """Return whether one of these locks blocks writers."""
        return any(is_conflict(want.mode, ROW_EXCLUSIVE) for want in wanted)

    def end(self, connection: BaseDatabaseWrapper, blocker: Blocker) -> bool:
        """Terminate the backend with this pid and this start time."""
        rows = fetch_rows(
            connection,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid = %s AND backend_start::text = %s",
            [blocker.pid, blocker.begun],
        )
        return bool(rows and rows[0][0])


def _blocker(row: tuple[Any, ...]) -> Blocker:
    pid, _, _, transaction, user, application, query, since, age, state, begun, kind = row
    vacuums = kind == "autovacuum worker"
    return Blocker(
        pid=pid or 0,  # a prepared transaction no longer belongs to a session
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
