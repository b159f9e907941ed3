"""SQLite: one writer, and a folder beside the file for what must wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.interface import Slot, TargetLock
from migration_route.vendors.sqlite.catalog import SQLiteCatalog
from migration_route.vendors.sqlite.locks import SQLiteLock

_WORKER_PATIENCE_MS = 60_000


class SQLite:
    """What is particular about SQLite."""

    name = "sqlite"
    lock_is_of_session = False
    catalog = SQLiteCatalog()

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
