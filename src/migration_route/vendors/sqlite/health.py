"""Is now a good moment for an SQLite file?"""

from __future__ import annotations

from pathlib import Path

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.health import (
    HealthSettings,
    Signal,
    SignalName,
    Touched,
    normal,
    stop,
)
from migration_route.vendors.room import room
from migration_route.vendors.signals import read_all
from migration_route.vendors.sqlite.disk import SQLiteRooms

_PATIENCE_MS = 1500  # for a writer that only passes by


def health(
    connection: BaseDatabaseWrapper, file: Path, touched: Touched, settings: HealthSettings
) -> tuple[Signal, ...]:
    """Return the signals."""
    return read_all(
        (
            (SignalName.WRITER, lambda: _writer(connection)),
            (
                SignalName.DISK,
                lambda: room(SQLiteRooms(connection, file), touched, settings),
            ),
        )
    )


def _writer(connection: BaseDatabaseWrapper) -> Signal:
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
