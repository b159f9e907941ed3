"""The health signals of an SQLite file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.values import (
    HealthSettings,
    HealthSignal,
    Impact,
    SignalName,
    normal_signal,
    stop_signal,
)
from migration_route.vendors import fetch_rows
from migration_route.vendors.base_health import (
    DiskNotVisible,
    DiskUsage,
    SignalReading,
    read_signals,
)

# Of a table with its indexes; the virtual table is there if SQLite was built with it.
_SIZES = """
SELECT sum(pgsize) FROM dbstat WHERE aggregate = TRUE AND name IN (
    SELECT name FROM sqlite_master WHERE tbl_name IN ({places}))
"""


class SQLiteDiskUsage(DiskUsage):
    def __init__(self, connection: BaseDatabaseWrapper, file: Path) -> None:
        self._connection = connection
        self._file = file

    def folder(self) -> Path:
        return self._file.parent

    def sizes(self, tables: Iterable[str], *, is_exact: bool) -> Mapping[str, int]:
        """Return the bytes of tables; those of the whole file if the names are only words,
        or if the pages of a table cannot be counted."""
        names = list(tables)
        if is_exact:
            query = _SIZES.format(places=", ".join(["%s"] * len(names)))
            try:
                [(size,)] = fetch_rows(self._connection, query, names)
                return {"": int(size or 0)}
            except OperationalError as error:
                if "dbstat" not in str(error):
                    raise
        try:
            return {"": self._file.stat().st_size}
        except OSError as error:
            raise DiskNotVisible(
                f"The file cannot be examined: {error.strerror}."
            ) from error


_BUSY_TIMEOUT_MS = 1500  # for a writer that soon ends


def health(
    connection: BaseDatabaseWrapper, file: Path, touched: Impact, settings: HealthSettings
) -> tuple[HealthSignal, ...]:
    usage = SQLiteDiskUsage(connection, file)
    reading = SignalReading(connection, touched, settings, usage)
    return read_signals(
        (
            (SignalName.WRITER, lambda: _writer(connection)),
            (SignalName.DISK, reading.disk),
        )
    )


def _writer(connection: BaseDatabaseWrapper) -> HealthSignal:
    """Try to become the one writer, and stop being it at once."""
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        try:
            cursor.execute("BEGIN IMMEDIATE")
        except OperationalError as error:
            if "locked" not in str(error) and "busy" not in str(error):
                raise
            return stop_signal(
                SignalName.WRITER,
                "Another connection has been writing for more than "
                f"{_BUSY_TIMEOUT_MS / 1000:g} s.",
            )
        cursor.execute("ROLLBACK")
    return normal_signal(
        SignalName.WRITER, "No other connection blocks writes to the file."
    )
