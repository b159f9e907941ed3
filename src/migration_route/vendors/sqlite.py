"""SQLite: a lock on a file beside the database, and a folder for what must wait."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.interface import Slot, TargetLock

_WORKER_PATIENCE_MS = 60_000


class SQLiteLock:
    """An OS lock on a file of its own, dropped by the kernel with its holder.

    The database file itself is never locked by hand: closing any descriptor of it
    would drop the POSIX locks of SQLite (sqlite.org, How To Corrupt, 2.2).
    """

    def __init__(self, database: Path, slot: Slot) -> None:
        self._path = database.with_name(f"{database.name}.route-lock-{slot.value}")
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock now, or return False at once."""
        if self._descriptor is not None:
            return True
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            if _is_file(descriptor, self._path):
                self._descriptor = descriptor
                return True
            os.close(descriptor)  # its holder removed it while we were opening it

    def release(self) -> bool:
        """Give the lock back, and take its file away."""
        if self._descriptor is None:
            return False
        held = _is_file(self._descriptor, self._path)
        if held:
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = None
        return held


def _is_file(descriptor: int, path: Path) -> bool:
    """Tell whether the path still names the file that was opened."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


class SQLite:
    """What is particular about SQLite."""

    name = "sqlite"
    lock_is_of_session = False

    def own_settings(self, settings: dict[str, Any], *, patience: float) -> dict[str, Any]:
        """Take the write lock at once where a transaction begins, and wait for it no
        longer than `patience`: an upgrade in mid-transaction fails without waiting."""
        options = {
            **settings["OPTIONS"],
            "timeout": patience,
            "transaction_mode": "IMMEDIATE",
        }
        return {**settings, "OPTIONS": options}

    def lock(self, connection: BaseDatabaseWrapper, slot: Slot) -> TargetLock:
        """Return the lock on the file beside the database."""
        return SQLiteLock(_path(connection), slot)

    def prepare_worker_session(self, connection: BaseDatabaseWrapper, run: str) -> None:
        """Take the write lock where a transaction begins, and wait for it: an upgrade in
        mid-transaction fails at once when the application has just written."""
        del run
        own = vars(connection)  # the attribute is of the SQLite wrapper alone
        own["transaction_mode"] = own.get("transaction_mode") or "IMMEDIATE"
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {_WORKER_PATIENCE_MS}")

    def sidecar(self, connection: BaseDatabaseWrapper) -> Path | None:
        """Return the folder beside the file."""
        path = _path(connection)
        return path.with_name(f"{path.name}.route")

    def is_private(self, connection: BaseDatabaseWrapper) -> bool:
        """Tell whether the database lives in the memory of this process."""
        name = str(connection.settings_dict["NAME"])
        return name == ":memory:" or "mode=memory" in name


def _path(connection: BaseDatabaseWrapper) -> Path:
    """Return the file of the database: a plain name, or a file: URI."""
    name = str(connection.settings_dict["NAME"])
    if name.startswith("file:"):
        name = name.removeprefix("file:").split("?", 1)[0]
        name = name.removeprefix("//") if name.startswith("///") else name
    # Two names of one file must mean one lock.
    return Path(name).resolve()


VENDOR = SQLite()
