"""Is now a good moment for an SQLite file?

How large are the tables of an SQLite file, and what is free beside it?
"""

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
    normal,
    stop,
)
from migration_route.vendors.base_health import DiskNotVisible, disk_signal, read_all

# Of a table with its indexes; the virtual table is there if SQLite was built with it.
_SIZES = """
SELECT sum(pgsize) FROM dbstat WHERE aggregate = TRUE AND name IN (
    SELECT name FROM sqlite_master WHERE tbl_name IN ({places}))
"""


class SQLiteRooms:
    """The place of one file."""

    keeps_old_rows = False  # a second copy takes the pages of what the first one replaced

    def __init__(self, connection: BaseDatabaseWrapper, file: Path) -> None:
        self._connection = connection
        self._file = file

    def folder(self) -> Path:
        """Return where the file is."""
        return self._file.parent

    def sizes(self, tables: Iterable[str], *, is_exact: bool) -> Mapping[str, int]:
        """Return the bytes of tables; of the whole file where the names are only words,
        or where the pages of a table cannot be counted."""
        names = list(tables)
        if is_exact:
            query = _SIZES.format(places=", ".join(["%s"] * len(names)))
            try:
                with self._connection.cursor() as cursor:
                    cursor.execute(query, names)
                    return {"": int(cursor.fetchone()[0] or 0)}
            except OperationalError as error:
                if "dbstat" not in str(error):
                    raise
        try:
            return {"": self._file.stat().st_size}
        except OSError as error:
            raise DiskNotVisible(
                f"The file cannot be looked at: {error.strerror}."
            ) from error


_PATIENCE_MS = 1500  # for a writer that only passes by


def health(
    connection: BaseDatabaseWrapper, file: Path, touched: Impact, settings: HealthSettings
) -> tuple[HealthSignal, ...]:
    """Return the signals."""
    return read_all(
        (
            (SignalName.WRITER, lambda: _writer(connection)),
            (
                SignalName.DISK,
                lambda: disk_signal(SQLiteRooms(connection, file), touched, settings),
            ),
        )
    )


def _writer(connection: BaseDatabaseWrapper) -> HealthSignal:
    """Try to become the one writer, and give that up at once."""
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout = {_PATIENCE_MS}")
        try:
            cursor.execute("BEGIN IMMEDIATE")
        except OperationalError as error:
            if "locked" not in str(error) and "busy" not in str(error):
                raise
            return stop(
                SignalName.WRITER,
                f"Somebody has been writing for more than {_PATIENCE_MS / 1000:g} s.",
            )
        cursor.execute("ROLLBACK")
    return normal(SignalName.WRITER, "Nobody keeps the file from being written.")
