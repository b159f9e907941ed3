"""The health signals of PostgreSQL.

Disk space is known only for a server on this host: its data directory is examined once
`postmaster.pid`, by the start time of the server, proves that it is the right one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.values import (
    HealthSettings,
    HealthSignal,
    Impact,
    SignalName,
    normal_signal,
    stop_signal,
    unknown_signal,
)
from migration_route.vendors import fetch_rows
from migration_route.vendors.base import (
    Blocker,
    CatalogProblems,
    LockRequest,
    LockTimeoutClass,
)
from migration_route.vendors.base_health import (
    QUERY_TIMEOUT,
    SERVER_IS_FULL,
    DiskNotVisible,
    DiskUsage,
    SignalReading,
    long_transaction,
    read_signals,
    session_facts,
    set_session_limits,
)
from migration_route.vendors.postgresql import catalog
from migration_route.vendors.postgresql.contention import PostgreSQLContention
from migration_route.vendors.sql_statements import quoted_parts

_SLACK = 5  # seconds between the start times in the file and of the server
_START_LINE = 2  # of postmaster.pid (src/include/utils/pidfile.h)
# A tablespace has its own directory; that of an in-place one is relative to the data
# directory.
_SIZES = """
SELECT coalesce(pg_tablespace_location(
           CASE c.reltablespace WHEN 0 THEN d.dattablespace ELSE c.reltablespace END), ''),
       sum(pg_total_relation_size(c.oid))::bigint
FROM unnest(%s::text[]) AS n(name) JOIN pg_class c ON {matches}
JOIN pg_database d ON d.datname = current_database()
WHERE c.relkind IN ('r', 'm', 'p') GROUP BY 1
"""
_BY_NAME = "c.oid = to_regclass(n.name)"
_BY_WORD = "c.relname = n.name AND c.relnamespace <> 'pg_catalog'::regnamespace"
_WHERE = """
SELECT setting, extract(epoch FROM pg_postmaster_start_time())::bigint
FROM pg_settings WHERE name = 'data_directory'
"""


class PostgreSQLDiskUsage(DiskUsage):
    keeps_old_rows = True  # the old file of a rewritten table is removed at the commit

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection

    def folder(self) -> Path:
        rows = fetch_rows(self._connection, _WHERE)
        if not rows:
            raise DiskNotVisible(
                "This role may not see the data directory: grant it pg_read_all_settings."
            )
        name, started = rows[0]
        folder = Path(name)
        try:
            lines = (folder / "postmaster.pid").read_text().splitlines()
            start = int(lines[_START_LINE])
        except FileNotFoundError as error:
            raise DiskNotVisible("The server's disk is not on this host.") from error
        except (OSError, ValueError, IndexError) as error:
            raise DiskNotVisible(
                "This process may not read the server's data directory."
            ) from error
        if abs(start - started) > _SLACK:
            raise DiskNotVisible("The server's disk is not on this host.")
        return folder

    def sizes(self, tables: Iterable[str], *, is_exact: bool) -> Mapping[str, int]:
        """Return the bytes of tables, with indexes and TOAST, by the directory of their
        tablespace."""
        names = [quoted_parts(name) for name in tables] if is_exact else list(tables)
        query = _SIZES.format(matches=_BY_NAME if is_exact else _BY_WORD)
        rows = fetch_rows(self._connection, query, [names])
        return {place: int(size) for place, size in rows}


_STANDBYS = """
SELECT coalesce(application_name, ''), coalesce(client_addr::text, ''), state,
       extract(epoch FROM replay_lag)::float8,
       CASE WHEN pg_is_in_recovery() THEN NULL
            ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)::bigint END
FROM pg_stat_replication
"""
_ARCHIVER = """
SELECT current_setting('archive_mode'), last_archived_wal, last_failed_wal,
       failed_count, coalesce(last_failed_time > last_archived_time,
                              last_failed_time IS NOT NULL),
       CASE WHEN pg_is_in_recovery() THEN NULL
            ELSE pg_walfile_name(pg_current_wal_lsn()) END,
       pg_size_bytes(current_setting('wal_segment_size'))
FROM pg_stat_archiver
"""
_READY = "SELECT count(*) FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"


def _segment(name: str, size: int) -> int:
    """Return the number of a segment on its timeline (manual, 30.6): eight digits of the
    timeline, of the file, of the segment in it."""
    return int(name[8:16], 16) * (2**32 // int(size)) + int(name[16:24], 16)


_CONTENTION = PostgreSQLContention()
_OWN = "migration-route:"  # prefix of the workers' session names
_MANY_TABLES = 20  # locked by one snapshot, which has locked all of them: a dump
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
# Recognized by its name or its locks: pg_dump locks every table that it dumps, and keeps
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
    connection: BaseDatabaseWrapper, touched: Impact, settings: HealthSettings
) -> tuple[HealthSignal, ...]:
    set_session_limits(
        connection,
        f"SET statement_timeout = {round(QUERY_TIMEOUT * 1000)}",
        f"SET lock_timeout = {round(QUERY_TIMEOUT * 1000)}",
    )
    reading = _Reading(connection, touched, settings)
    return read_signals(
        (
            (SignalName.STANDBY, reading.standby),
            (SignalName.LONG_TRANSACTION, reading.long_transaction),
            (SignalName.WRAPAROUND, reading.wraparound),
            (SignalName.DUMP, reading.dump),
            (SignalName.REPLICATION_LAG, reading.replication_lag),
            (SignalName.ARCHIVE, reading.archive),
            (SignalName.CONNECTIONS, reading.connections),
            (SignalName.DISK, reading.disk),
            (SignalName.INVALID_INDEX, reading.invalid_index),
            (SignalName.RECORDER_SEQUENCE, reading.recorder_sequence),
        )
    )


def without_connection(error: Exception) -> HealthSignal | None:
    """Detect a server whose connections are all in use: it cannot be queried."""
    text = str(error)
    if not any(part in text for part in _FULL):
        return None
    return SERVER_IS_FULL


class _Reading(SignalReading):
    def __init__(
        self, connection: BaseDatabaseWrapper, touched: Impact, settings: HealthSettings
    ) -> None:
        super().__init__(connection, touched, settings, PostgreSQLDiskUsage(connection))
        self._known_holders: list[Blocker] | None = None
        self._problems: CatalogProblems | None = None

    def standby(self) -> HealthSignal:
        [(is_standby,)] = self._rows("SELECT pg_is_in_recovery()")
        if is_standby:
            return stop_signal(
                SignalName.STANDBY, "This server is a standby: it accepts no changes."
            )
        return normal_signal(SignalName.STANDBY, "This server is a primary.")

    def replication_lag(self) -> HealthSignal:
        name = SignalName.REPLICATION_LAG
        rows = self._rows(_STANDBYS)
        if not rows:
            return normal_signal(name, "No standby follows this server.")
        if all(state is None for _, _, state, _, _ in rows):
            return unknown_signal(
                name,
                f"This role may not see the lag of {len(rows)} standbys: grant it "
                "pg_read_all_stats.",
            )
        limit = self._settings.replication_lag.total_seconds()
        lag, size = max(row[3] or 0.0 for row in rows), max(row[4] or 0 for row in rows)
        slowest = max(rows, key=lambda row: (row[3] or 0.0, row[4] or 0))
        facts = {
            "standby": slowest[0],
            "address": slowest[1],
            "lag_seconds": round(lag, 1),
            "lag_bytes": size,
        }
        if lag > limit:
            text = f"A standby ({slowest[0]}) is {lag:.0f} s behind."
            return stop_signal(name, text, **facts)
        if size > self._settings.replication_bytes:
            text = f"A standby ({slowest[0]}) has {size} bytes of WAL still to replay."
            return stop_signal(name, text, **facts)
        return normal_signal(name, f"{len(rows)} standbys are within the limits.", **facts)

    def archive(self) -> HealthSignal:
        name = SignalName.ARCHIVE
        [row] = self._rows(_ARCHIVER)
        mode, archived, failed, failures, is_failing, current, size = row
        if mode == "off":
            return normal_signal(name, "WAL archiving is off.")
        waiting = self._waiting(archived, current, size)
        facts = {"waiting": waiting, "failed": failures, "last_failed": failed or ""}
        if is_failing:
            return stop_signal(
                name, f"WAL archiving fails, most recently for {failed}.", **facts
            )
        if waiting is None:
            return unknown_signal(
                name, "No WAL has been archived yet, so nothing can be counted.", **facts
            )
        if waiting > self._settings.archive_waiting:
            return stop_signal(
                name, f"{waiting} WAL segments wait to be archived.", **facts
            )
        return normal_signal(name, f"{waiting} WAL segments wait to be archived.", **facts)

    def _waiting(self, archived: str | None, current: str | None, size: int) -> int | None:
        """Count the waiting segments: in the archive status directory if this role may read
        it (pg_monitor), otherwise from the last archived segment to the current one."""
        try:
            [(count,)] = self._rows(_READY)
            return int(count)
        except DatabaseError:
            if not archived or not current:
                return None
            return max(_segment(current, size) - _segment(archived, size) - 1, 0)

    def _holders(self) -> list[Blocker]:
        """Return the sessions that hold any lock on what is touched."""
        if self._known_holders is None:
            names = {((name,), "AccessExclusiveLock") for name in self._touched.locked}
            request = LockRequest(limit=LockTimeoutClass.NONE, names=frozenset(names))
            wanted = _CONTENTION.tables(self._connection, request)
            found = _CONTENTION.blockers_of(self._connection, wanted)
            self._known_holders = [
                one for one in found if not one.application.startswith(_OWN)
            ]
        return self._known_holders

    def long_transaction(self) -> HealthSignal:
        limit = self._settings.long_transaction.total_seconds()
        holders = [one for one in self._holders() if one.pid == 0 or not one.is_server]
        if found := long_transaction(holders, longer_than=limit, of=" on affected tables"):
            return found
        if self._touched.waits_for_all:
            snapshots = [_snapshot(row) for row in self._rows(_SNAPSHOTS)]
            others = [one for one in snapshots if not one.application.startswith(_OWN)]
            of = ", and a concurrent index build waits for it"
            if found := long_transaction(others, longer_than=limit, of=of):
                return found
        if hidden := [one for one in holders if not one.since]:
            return unknown_signal(
                SignalName.LONG_TRANSACTION,
                f"This role may not see how long {len(hidden)} sessions have held locks on "
                "affected tables: grant it pg_read_all_stats.",
            )
        return normal_signal(
            SignalName.LONG_TRANSACTION,
            f"No transaction has locked an affected table for more than {limit:g} s.",
        )

    def wraparound(self) -> HealthSignal:
        vacuums = [one for one in self._holders() if one.is_server and one.pid]
        found = [one for one in vacuums if "to prevent wraparound" in one.query]
        if found:
            return stop_signal(
                SignalName.WRAPAROUND,
                "An autovacuum to prevent wraparound is running on an affected table, and "
                "does not give way.",
                sessions=[session_facts(one) for one in found],
            )
        if [one for one in self._holders() if one.query == "<insufficient privilege>"]:
            return unknown_signal(
                SignalName.WRAPAROUND,
                "This role may not see other sessions: grant it pg_read_all_stats.",
            )
        return normal_signal(
            SignalName.WRAPAROUND, "No autovacuum to prevent wraparound is running."
        )

    def dump(self) -> HealthSignal:
        rows = self._rows(_DUMPS, _MANY_TABLES)
        if not rows:
            return normal_signal(SignalName.DUMP, "No dump of this database is running.")
        pid, application, user, since = rows[0]
        return stop_signal(
            SignalName.DUMP,
            f"A dump of this database is running: pid {pid} ({application or user}).",
            pid=pid,
            application=application,
            user=user,
            since=since or "",
        )

    def connections(self) -> HealthSignal:
        [(used, admitted)] = self._rows(_CONNECTIONS)
        return self._connections_in_use(used, admitted)

    def _in_the_catalog(self) -> CatalogProblems:
        if self._problems is None:
            self._problems = catalog.catalog_problems(self._connection)
        return self._problems

    def invalid_index(self) -> HealthSignal:
        touched = self._touched
        found = [
            index
            for index in self._in_the_catalog().invalid_indexes
            if (index.table in touched.tables or index.name in touched.indexes)
            and index.name not in touched.expected_invalid
        ]
        if not found:
            return normal_signal(SignalName.INVALID_INDEX, "No affected index is invalid.")
        first = found[0]
        return stop_signal(
            SignalName.INVALID_INDEX,
            f"The index {first.name} on {first.table} is invalid: drop it with "
            f"DROP INDEX CONCURRENTLY {first.quoted}.",
            indexes=[index.name for index in found],
        )

    def recorder_sequence(self) -> HealthSignal:
        name = SignalName.RECORDER_SEQUENCE
        behind = self._in_the_catalog().sequence_behind
        if behind is None:
            return normal_signal(name, "The next id of django_migrations is free.")
        return stop_signal(
            name,
            f"The next id of django_migrations would be {behind.next_id}, but ids up to "
            f"{behind.last_id} exist. Run {behind.remedy}",
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
