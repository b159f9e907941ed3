"""Is now a good moment for MySQL or MariaDB?

Where are the tables of MySQL or MariaDB, and how large? Only a server on this host is
known: by its host's name, and by the file in which it keeps its pid while it runs.
"""

from __future__ import annotations

import os
import socket
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
    normal,
    stop,
    unknown,
)
from migration_route.vendors.base import TableLockRequest
from migration_route.vendors.base_health import (
    STATEMENT,
    DiskNotVisible,
    disk_signal,
    limited,
    long_transaction,
    read_all,
)
from migration_route.vendors.mysql.locks import EXCLUSIVE, MySQLContention

_WHERE = "SELECT @@global.hostname, @@global.datadir, @@global.pid_file"
_SIZES = """
SELECT table_name, data_length + index_length FROM information_schema.tables
WHERE table_schema = database() AND table_type = 'BASE TABLE' AND table_name IN %s
"""


class MySQLRooms:
    """The place of one database."""

    keeps_old_rows = False  # each alteration commits

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection

    def folder(self) -> Path:
        """Return the server's data directory. Raises `Unseen`."""
        with self._connection.cursor() as cursor:
            cursor.execute(_WHERE)
            host, data, pid_file = map(_text, cursor.fetchone())
        folder = Path(data)
        try:
            pid = int((folder / pid_file).read_text())
        except FileNotFoundError as error:
            raise DiskNotVisible("The server's disk is not on this host.") from error
        except (OSError, ValueError) as error:
            raise DiskNotVisible(
                "The server's pid file may not be read by this process."
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
        with self._connection.cursor() as cursor:
            cursor.execute(_SIZES, [names])
            return {"": sum(int(size or 0) for _, size in cursor.fetchall())}


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # somebody else's, and it is there
    return True


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


_CONTENTION = MySQLContention()
_FULL = frozenset({1040, 1203, 1226})  # of the server, of the user, of its resources
# mysqldump says so in each statement; with --single-transaction it is a snapshot.
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
    """Return the signals, in the order in which they are shown."""
    limited(  # the first is MariaDB's, in seconds; the second MySQL's, in milliseconds
        connection,
        f"SET SESSION max_statement_time = {STATEMENT}",
        f"SET SESSION max_execution_time = {round(STATEMENT * 1000)}",
    )
    reading = _Reading(connection, touched, settings)
    return read_all(
        (
            (SignalName.STANDBY, reading.standby),
            (SignalName.LONG_TRANSACTION, reading.long_transaction),
            (SignalName.DUMP, reading.dump),
            (SignalName.LOCK_QUEUE, reading.lock_queue),
            (SignalName.REPLICATION_LAG, reading.replication_lag),
            (SignalName.CONNECTIONS, reading.connections),
            (
                SignalName.DISK,
                lambda: disk_signal(MySQLRooms(connection), touched, settings),
            ),
        )
    )


def without_connection(error: Exception) -> HealthSignal | None:
    """Tell a server that is full: it admits nobody, so it is not asked."""
    if not error.args or error.args[0] not in _FULL:
        return None
    return stop(SignalName.CONNECTIONS, "The server admits no more connections.")


class _Reading:
    """One look at one database."""

    def __init__(
        self, connection: BaseDatabaseWrapper, touched: Impact, settings: HealthSettings
    ) -> None:
        self._connection = connection
        self._touched = touched
        self._settings = settings

    def _rows(self, query: str) -> list[tuple[Any, ...]]:
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            return list(cursor.fetchall())

    def standby(self) -> HealthSignal:
        [(is_read_only,)] = self._rows("SELECT @@global.read_only")
        if is_read_only:
            return stop(SignalName.STANDBY, "This server is read-only, as a replica is.")
        return normal(SignalName.STANDBY, "This server takes changes.")

    def long_transaction(self) -> HealthSignal:
        limit = self._settings.long_transaction.total_seconds()
        wanted = tuple(
            TableLockRequest(table=name, mode=EXCLUSIVE) for name in self._touched.locked
        )
        if not wanted:
            return normal(SignalName.LONG_TRANSACTION, "No table is touched.")
        if _CONTENTION.observes(self._connection):
            holders = _CONTENTION.in_the_way(self._connection, wanted)
        else:  # any of them may hold a touched table
            holders = _CONTENTION.open_transactions(self._connection)
        others = [one for one in holders if not one.is_server]
        found = long_transaction(others, longer_than=limit, of="on touched tables")
        return found or normal(
            SignalName.LONG_TRANSACTION,
            f"No transaction is older than {limit:g} s on touched tables.",
        )

    def dump(self) -> HealthSignal:
        rows = self._rows(_DUMPS)
        if not rows:
            return normal(SignalName.DUMP, "Nobody is seen to dump this database.")
        pid, user = rows[0]
        text = f"Somebody dumps this database: connection {pid} ({_health_text(user)})."
        return stop(SignalName.DUMP, text, pid=int(pid), user=_health_text(user))

    def lock_queue(self) -> HealthSignal:
        limit = self._settings.lock_queue.total_seconds()
        rows = [row for row in self._rows(_QUEUE) if row[2] > limit]
        if not rows:
            return normal(
                SignalName.LOCK_QUEUE, f"Nobody waits for metadata for {limit:g} s."
            )
        pid, user, seconds, query = rows[0]
        return stop(
            SignalName.LOCK_QUEUE,
            f"{len(rows)} sessions wait for the metadata of a table, the first of them, "
            f"{pid} ({_health_text(user)}), for {seconds} s.",
            pid=int(pid),
            user=_health_text(user),
            query=_health_text(query),
        )

    def replication_lag(self) -> HealthSignal:
        name = SignalName.REPLICATION_LAG
        if (behind := self._behind()) is not None:
            limit = self._settings.replication_lag.total_seconds()
            text = f"This server is itself a replica, {behind} s behind."
            tell = stop if behind > limit else normal
            return tell(name, text, lag_seconds=behind)
        [(count,)] = self._rows(_REPLICAS)
        if not count:
            return normal(name, "No replica is seen to follow this server.")
        return unknown(
            name, f"{count} replicas follow; a source does not know how closely they do."
        )

    def _behind(self) -> int | None:
        """Return how far this server is behind its own source, None where it has none."""
        for statement in ("SHOW REPLICA STATUS", "SHOW SLAVE STATUS"):
            try:
                with self._connection.cursor() as cursor:
                    cursor.execute(statement)
                    rows = cursor.fetchall()
                    names = [str(part[0]).lower() for part in cursor.description or ()]
            except DatabaseError as error:
                if error.args and error.args[0] == 1064:  # another word in this version
                    continue
                raise
            for row in rows:
                told = dict(zip(names, row, strict=True))
                for key in ("seconds_behind_source", "seconds_behind_master"):
                    if told.get(key) is not None:
                        return int(told[key])
            return None
        return None

    def connections(self) -> HealthSignal:
        name = SignalName.CONNECTIONS
        [(_, used)] = self._rows("SHOW GLOBAL STATUS LIKE 'Threads_connected'")
        [(admitted,)] = self._rows("SELECT @@global.max_connections")
        text = f"{used} of {admitted} connections are in use."
        tell = stop if int(used) > admitted * self._settings.connections else normal
        return tell(name, text, used=int(used), admitted=int(admitted))


def _health_text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
