"""Is PostgreSQL's WAL carried off: to its standbys, and to its archive?"""

from __future__ import annotations

from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.health import (
    HealthSettings,
    Signal,
    SignalName,
    normal,
    stop,
    unknown,
)

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


class Wal:
    """One look at where it goes."""

    def __init__(self, connection: BaseDatabaseWrapper, settings: HealthSettings) -> None:
        self._connection = connection
        self._settings = settings

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def standby(self) -> Signal:
        [(is_standby,)] = self._rows("SELECT pg_is_in_recovery()")
        if is_standby:
            return stop(
                SignalName.STANDBY, "This server is a standby: it takes no changes."
            )
        return normal(SignalName.STANDBY, "This server is a primary.")

    def replication_lag(self) -> Signal:
        name = SignalName.REPLICATION_LAG
        rows = self._rows(_STANDBYS)
        if not rows:
            return normal(name, "No standby follows this server.")
        if all(state is None for _, _, state, _, _ in rows):
            return unknown(
                name,
                f"This role may not see how {len(rows)} standbys follow: "
                "pg_read_all_stats shows it.",
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
            return stop(name, text, **facts)
        if size > self._settings.replication_bytes:
            text = f"A standby ({slowest[0]}) has {size} bytes of WAL still to replay."
            return stop(name, text, **facts)
        return normal(name, f"{len(rows)} standbys follow closely.", **facts)

    def archive(self) -> Signal:
        name = SignalName.ARCHIVE
        [row] = self._rows(_ARCHIVER)
        mode, archived, failed, failures, is_failing, current, size = row
        if mode == "off":
            return normal(name, "WAL is not archived here.")
        waiting = self._waiting(archived, current, size)
        facts = {"waiting": waiting, "failed": failures, "last_failed": failed or ""}
        if is_failing:
            return stop(name, f"The archiver fails, at last on {failed}.", **facts)
        if waiting is None:
            return unknown(name, "Nothing has been archived yet to count from.", **facts)
        if waiting > self._settings.archive_waiting:
            return stop(name, f"{waiting} segments of WAL wait for the archive.", **facts)
        return normal(name, f"{waiting} segments of WAL wait for the archive.", **facts)

    def _waiting(self, archived: str | None, current: str | None, size: int) -> int | None:
        """Count what waits: in its folder where this role may look there (pg_monitor),
        else from the last segment that was archived to the current one."""
        try:
            [(count,)] = self._rows(_READY)
            return int(count)
        except DatabaseError:
            if not archived or not current:
                return None
            return max(_segment(current, size) - _segment(archived, size) - 1, 0)


def _segment(name: str, size: int) -> int:
    """Return the number of a segment on its timeline (manual, 30.6): eight digits of the
    timeline, of the file, of the segment in it."""
    return int(name[8:16], 16) * (2**32 // int(size)) + int(name[16:24], 16)
