"""Is now a good moment for an SQLite file?"""

from __future__ import annotations

import os
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
    unknown,
)
from migration_route.vendors.signals import read_all

_PATIENCE_MS = 1500  # for a writer that only passes by


def health(
    connection: BaseDatabaseWrapper, file: Path, touched: Touched, settings: HealthSettings
) -> tuple[Signal, ...]:
    """Return the signals; any definition may write the file's tables anew."""
    del touched
    return read_all(
        (
            (SignalName.WRITER, lambda: _writer(connection)),
            (SignalName.DISK, lambda: _disk(file, settings)),
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


def _disk(file: Path, settings: HealthSettings) -> Signal:
    name = SignalName.DISK
    try:
        size = file.stat().st_size
        found = os.statvfs(file.parent)
    except OSError as error:
        return unknown(name, f"The file cannot be looked at: {error.strerror}.")
    free, needed = found.f_bavail * found.f_frsize, round(size * settings.disk)
    text = f"{free / 1024**2:,.0f} MB are free; {needed / 1024**2:,.0f} MB may be needed."
    tell = stop if free < needed else normal
    return tell(name, text, free=free, needed=needed, file=size)
