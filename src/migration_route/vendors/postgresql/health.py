"""Is now a good moment for PostgreSQL?"""

from __future__ import annotations

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.health import (
    HealthSettings,
    Signal,
    SignalName,
    Touched,
    normal,
    stop,
    unknown,
)
from migration_route.vendors.interface import Blocker, Limit, Wish
from migration_route.vendors.postgresql import troubles
from migration_route.vendors.postgresql.contention import PostgreSQLContention
from migration_route.vendors.postgresql.disk import PostgreSQLRooms
from migration_route.vendors.postgresql.wal import Wal
from migration_route.vendors.room import room
from migration_route.vendors.signals import (
    STATEMENT,
    limited,
    long_transaction,
    read_all,
    session_facts,
)
from migration_route.vendors.troubles import Troubles

_CONTENTION = PostgreSQLContention()
_OWN = "migration-route:"  # what the worker's sessions are named
_MANY_TABLES = 20  # that one snapshot has locked, all of them: whoever dumps does that
_FULL = ("too many clients", "remaining connection slots", "too many connections")

_SNAPSHOTS = """
SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(query, ''),
       to_char(xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
       extract(epoch FROM clock_timestamp() - xact_start)::float8, coalesce(state, '')
FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
  AND backend_xmin IS NOT NULL AND xact_start IS NOT NULL
  AND backend_type = 'client backend'
"""
# By its name, or by what it does: pg_dump locks every table that it takes, and keeps
# one snapshot while it reads them.
_DUMPS = """
SELECT a.pid, coalesce(a.application_name, ''), coalesce(a.usename, ''),
       to_char(a.xact_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
FROM pg_stat_activity a
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND a.application_name NOT LIKE 'migration-route:%%'
  AND (a.application_name LIKE 'pg_dump%%' OR (
    SELECT count(DISTINCT l.relation) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE l.pid = a.pid AND l.mode = 'AccessShareLock' AND c.relkind IN ('r', 'p')
      AND c.relnamespace <> 'pg_catalog'::regnamespace
  ) >= greatest(%s, (
    SELECT count(*) FROM pg_class
    WHERE relkind IN ('r', 'p') AND relpersistence = 'p' AND relnamespace NOT IN (
        'pg_catalog'::regnamespace, 'information_schema'::regnamespace)
  )))
"""
_CONNECTIONS = """
SELECT count(*), current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int
FROM pg_stat_activity WHERE datid IS NOT NULL
AND (backend_type = 'client backend' OR backend_type IS NULL)
"""


def health(
    connection: BaseDatabaseWrapper, touched: Touched, settings: HealthSettings
) -> tuple[Signal, ...]:
    """Return the signals, in the order in which they are shown."""
    limited(
        connection,
        f"SET statement_timeout = {round(STATEMENT * 1000)}",
        f"SET lock_timeout = {round(STATEMENT * 1000)}",
    )
    reading = _Reading(connection, touched, settings)
    wal = Wal(connection, settings)
    return read_all(
        (
            (SignalName.STANDBY, wal.standby),
            (SignalName.LONG_TRANSACTION, reading.long_transaction),
            (SignalName.WRAPAROUND, reading.wraparound),
            (SignalName.DUMP, reading.dump),
            (SignalName.REPLICATION_LAG, wal.replication_lag),
            (SignalName.ARCHIVE, wal.archive),
            (SignalName.CONNECTIONS, reading.connections),
            (SignalName.DISK, lambda: room(PostgreSQLRooms(connection), touched, settings)),
            (SignalName.INVALID_INDEX, reading.invalid_index),
            (SignalName.RECORDER_SEQUENCE, reading.recorder_sequence),
        )
    )


def without_connection(error: Exception) -> Signal | None:
    """Tell a server that is full: it admits nobody, so it is not asked."""
    words = str(error)
    if not any(part in words for part in _FULL):
        return None
    return stop(SignalName.CONNECTIONS, "The server admits no more connections.")


class _Reading:
    """One look at one database."""

    def __init__(
        self, connection: BaseDatabaseWrapper, touched: Touched, settings: HealthSettings
    ) -> None:
        self._connection = connection
        self._touched = touched
        self._settings = settings
        self._found: list[Blocker] | None = None
        self._troubles: Troubles | None = None

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query, values or None)
            return list(cursor.fetchall())

    def _holders(self) -> list[Blocker]:
        """Return who holds any lock on what is touched."""
        if self._found is None:
            names = {((name,), "AccessExclusiveLock") for name in self._touched.locked}
            wish = Wish(limit=Limit.NONE, names=frozenset(names))
            wanted = _CONTENTION.tables(self._connection, wish)
            found = _CONTENTION.in_the_way(self._connection, wanted)
            self._found = [one for one in found if not one.application.startswith(_OWN)]
        return self._found

    def long_transaction(self) -> Signal:
        limit = self._settings.long_transaction.total_seconds()
        holders = [one for one in self._holders() if one.pid == 0 or not one.is_server]
        if found := long_transaction(holders, longer_than=limit, of="on touched tables"):
            return found
        if self._touched.waits_for_all:
            snapshots = [_snapshot(row) for row in self._rows(_SNAPSHOTS)]
            others = [one for one in snapshots if not one.application.startswith(_OWN)]
            of = "while an index is to be made concurrently,"
            if found := long_transaction(others, longer_than=limit, of=of):
                return found
        if hidden := [one for one in holders if not one.since]:
            return unknown(
                SignalName.LONG_TRANSACTION,
                f"This role may not see since when {len(hidden)} sessions hold locks on "
                "touched tables: pg_read_all_stats shows it.",
            )
        return normal(
            SignalName.LONG_TRANSACTION,
            f"No transaction holds a touched table for longer than {limit:g} s.",
        )

    def wraparound(self) -> Signal:
        vacuums = [one for one in self._holders() if one.is_server and one.pid]
        found = [one for one in vacuums if "to prevent wraparound" in one.query]
        if found:
            return stop(
                SignalName.WRAPAROUND,
                "An autovacuum that prevents a wraparound is at work on a touched table, "
                "and gives way to nobody.",
                sessions=[session_facts(one) for one in found],
            )
        if [one for one in self._holders() if one.query == "<insufficient privilege>"]:
            return unknown(
                SignalName.WRAPAROUND,
                "This role may not see what others do: pg_read_all_stats shows it.",
            )
        return normal(SignalName.WRAPAROUND, "No vacuum against a wraparound is at work.")

    def dump(self) -> Signal:
        rows = self._rows(_DUMPS, _MANY_TABLES)
        if not rows:
            return normal(SignalName.DUMP, "Nobody dumps this database.")
        pid, application, user, since = rows[0]
        return stop(
            SignalName.DUMP,
            f"Somebody dumps this database: pid {pid} ({application or user}).",
            pid=pid,
            application=application,
            user=user,
            since=since or "",
        )

    def connections(self) -> Signal:
        name = SignalName.CONNECTIONS
        [(used, admitted)] = self._rows(_CONNECTIONS)
        limit = self._settings.connections
        text = f"{used} of {admitted} connections are in use."
        if used > admitted * limit:
            return stop(name, text, used=used, admitted=admitted)
        return normal(name, text, used=used, admitted=admitted)

    def _in_the_catalog(self) -> Troubles:
        if self._troubles is None:
            self._troubles = troubles.troubles(self._connection)
        return self._troubles

    def invalid_index(self) -> Signal:
        touched = self._touched
        found = [
            index
            for index in self._in_the_catalog().invalid_indexes
            if (index.table in touched.tables or index.name in touched.indexes)
            and index.name not in touched.expected_invalid
        ]
        if not found:
            return normal(SignalName.INVALID_INDEX, "No touched index is invalid.")
        first = found[0]
        return stop(
            SignalName.INVALID_INDEX,
            f"The index {first.name} on {first.table} is invalid: drop it with "
            f"DROP INDEX CONCURRENTLY {first.quoted}.",
            indexes=[index.name for index in found],
        )

    def recorder_sequence(self) -> Signal:
        name = SignalName.RECORDER_SEQUENCE
        behind = self._in_the_catalog().sequence_behind
        if behind is None:
            return normal(name, "The next id of django_migrations is free.")
        return stop(
            name,
            f"The next id of django_migrations would be {behind.next_id}, but there are "
            f"ids up to {behind.last_id}: {behind.remedy}",
            next_id=behind.next_id,
            last_id=behind.last_id,
        )


def _snapshot(row: tuple[Any, ...]) -> Blocker:
    pid, user, application, query, since, age, state = row
    return Blocker(
        pid=pid,
        user=user,
        application=application,
        query=query,
        since=since,
        state=state,
        begun="",
        age=age,
        key="",
    )
