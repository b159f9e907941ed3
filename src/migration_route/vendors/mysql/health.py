"""The health signals of MySQL and MariaDB.

Disk space is known only for a server on this host, which is identified by its host name and
by the pid file that it keeps while it runs.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

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
from migration_route.vendors.base import TableLockRequest
from migration_route.vendors.base_health import (
    QUERY_TIMEOUT,
    SERVER_IS_FULL,
    DiskNotVisible,
    DiskUsage,
    SignalReading,
    long_transaction,
    read_signals,
    set_session_limits,
)
from migration_route.vendors.mysql.catalog import text_of
from migration_route.vendors.mysql.locks import EXCLUSIVE, MySQLContention

_WHERE = "SELECT @@global.hostname, @@global.datadir, @@global.pid_file"
_SIZES = """
SELECT table_name, data_length + index_length FROM information_schema.tables
WHERE table_schema = database() AND table_type = 'BASE TABLE' AND table_name IN %s
"""


class MySQLDiskUsage(DiskUsage):
    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection

    def folder(self) -> Path:
        [row] = fetch_rows(self._connection, _WHERE)
        host, data, pid_file = map(text_of, row)
        folder = Path(data)
        try:
            pid = int((folder / pid_file).read_text())
        except FileNotFoundError as error:
            raise DiskNotVisible("The server's disk is not on this host.") from error
        except (OSError, ValueError) as error:
            raise DiskNotVisible(
                "This process may not read the server's pid file."
            ) from error
        if host != socket.gethostname() or not _is_running(pid):
            raise DiskNotVisible("The server's disk is not on this host.")
        return folder

    def sizes(self, tables: Iterable[str], *, is_exact: bool) -> Mapping[str, int]:
        """Return the bytes of tables with their indexes, by the server's statistics."""
        del is_exact
        names = tuple(tables)
        if not names:
            return {}
        rows = fetch_rows(self._connection, _SIZES, [names])
        return {"": sum(int(size or 0) for _, size in rows)}


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it exists, and belongs to another user
    return True


_CONTENTION = MySQLContention()
_FULL = frozenset({1040, 1203, 1226})  # limits of the server, of the user, of its resources
# mysqldump marks each statement with this; with --single-transaction it is a snapshot.
_DUMPS = """
SELECT id, coalesce(user, '') FROM information_schema.processlist
WHERE id <> connection_id() AND db = database()
AND info LIKE 'SELECT /*!40001 SQL_NO_CACHE */%'
"""
_QUEUE = """
SELECT id, coalesce(user, ''), time, left(coalesce(info, ''), 200)
FROM information_schema.processlist
WHERE id <> connection_id() AND db = database()
AND state LIKE 'Waiting for table%lock' ORDER BY time DESC
"""
_REPLICAS = """
SELECT count(*) FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'
"""


def health(
    connection: BaseDatabaseWrapper, touched: Impact, settings: HealthSettings
) -> tuple[HealthSignal, ...]:
    # The first is MariaDB's, in seconds; the second MySQL's, in milliseconds.
    set_session_limits(
        connection,
        f"SET SESSION max_statement_time = {QUERY_TIMEOUT}",
        f"SET SESSION max_execution_time = {round(QUERY_TIMEOUT * 1000)}",
    )
    usage = MySQLDiskUsage(connection)
    reading = _Reading(connection, touched, settings, usage)
    return read_signals(
        (
            (SignalName.STANDBY, reading.standby),
            (SignalName.LONG_TRANSACTION, reading.long_transaction),
            (SignalName.DUMP, reading.dump),
            (SignalName.LOCK_QUEUE, reading.lock_queue),
            (SignalName.REPLICATION_LAG, reading.replication_lag),
            (SignalName.CONNECTIONS, reading.connections),
            (SignalName.DISK, reading.disk),
        )
    )


def without_connection(error: Exception) -> HealthSignal | None:
    """Detect a server whose connections are all in use: it cannot be queried."""
    if not error.args or error.args[0] not in _FULL:
        return None
    return SERVER_IS_FULL


class _Reading(SignalReading):
    def standby(self) -> HealthSignal:
        [(is_read_only,)] = self._rows("SELECT @@global.read_only")
        if is_read_only:
            return stop_signal(
                SignalName.STANDBY, "This server is read-only, like a replica."
            )
        return normal_signal(SignalName.STANDBY, "This server accepts changes.")

    def long_transaction(self) -> HealthSignal:
        limit = self._settings.long_transaction.total_seconds()
        wanted = tuple(
            TableLockRequest(table=name, mode=EXCLUSIVE) for name in self._touched.locked
        )
        if not wanted:
            return normal_signal(SignalName.LONG_TRANSACTION, "No table is affected.")
        if _CONTENTION.observes(self._connection):
            holders = _CONTENTION.blockers_of(self._connection, wanted)
        else:  # any of them may have locked a touched table
            holders = _CONTENTION.open_transactions(self._connection)
        others = [one for one in holders if not one.is_server]
        found = long_transaction(others, longer_than=limit, of=" on affected tables")
        return found or normal_signal(
            SignalName.LONG_TRANSACTION,
            f"No transaction on affected tables is older than {limit:g} s.",
        )

    def dump(self) -> HealthSignal:
        rows = self._rows(_DUMPS)
        if not rows:
            return normal_signal(SignalName.DUMP, "No dump of this database is visible.")
        pid, user = rows[0]
        text = f"A dump of this database is running: connection {pid} ({text_of(user)})."
        return stop_signal(SignalName.DUMP, text, pid=int(pid), user=text_of(user))

    def lock_queue(self) -> HealthSignal:
        limit = self._settings.lock_queue.total_seconds()
        rows = [row for row in self._rows(_QUEUE) if row[2] > limit]
        if not rows:
            return normal_signal(
                SignalName.LOCK_QUEUE,
                f"No session has waited for a metadata lock for more than {limit:g} s.",
            )
        pid, user, seconds, query = rows[0]
        return stop_signal(
            SignalName.LOCK_QUEUE,
            f"{len(rows)} sessions wait for the metadata lock of a table. The first, {pid} "
            f"({text_of(user)}), has waited for {seconds} s.",
            pid=int(pid),
            user=text_of(user),
            query=text_of(query),
        )

    def replication_lag(self) -> HealthSignal:
        name = SignalName.REPLICATION_LAG
        if (behind := self._behind()) is not None:
            limit = self._settings.replication_lag.total_seconds()
            text = f"This server is itself a replica, {behind} s behind."
            signal = stop_signal if behind > limit else normal_signal
            return signal(name, text, lag_seconds=behind)
        [(count,)] = self._rows(_REPLICAS)
        if not count:
            return normal_signal(name, "No replica of this server is visible.")
        return unknown_signal(
            name,
            f"{count} replicas follow; a source does not know how far behind they are.",
        )

    def _behind(self) -> int | None:
        """Return the seconds that this server is behind its own source; None if it has
        none."""
        for statement in ("SHOW REPLICA STATUS", "SHOW SLAVE STATUS"):
            try:
                with self._connection.cursor() as cursor:
                    cursor.execute(statement)
                    rows = cursor.fetchall()
                    names = [str(part[0]).lower() for part in cursor.description or ()]
            except DatabaseError as error:
                if error.args and error.args[0] == 1064:  # this version uses the other word
                    continue
                raise
            for row in rows:
                status = dict(zip(names, row, strict=True))
                for key in ("seconds_behind_source", "seconds_behind_master"):
                    if status.get(key) is not None:
                        return int(status[key])
            return None
        return None

    def connections(self) -> HealthSignal:
        [(_, used)] = self._rows("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
        [(admitted,)] = self._rows("SELECT @@global.max_connections")
        return self._connections_in_use(int(used), int(admitted))
