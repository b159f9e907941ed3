"""The SQLite implementation of `Vendor`: one writer, and a folder beside the file for data
that must wait."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.values import HealthSettings, HealthSignal, Impact
from migration_route.vendors.base import (
    NO_PROBLEMS,
    CatalogProblems,
    Forecaster,
    LockSlot,
    Sessions,
    TargetLock,
)
from migration_route.vendors.base_identity import DatabaseIdentity
from migration_route.vendors.sqlite import health
from migration_route.vendors.sqlite.catalog import SQLiteCatalog
from migration_route.vendors.sqlite.files import (
    file_of,
    identity_of_session,
    is_in_memory,
    name_of,
)
from migration_route.vendors.sqlite.forecast import SQLiteForecaster
from migration_route.vendors.sqlite.locks import SQLiteLock, SQLiteSessions

_WORKER_BUSY_TIMEOUT_MS = 60_000


class SQLite:
    name = "sqlite"
    lock_is_of_session = False
    contention = None
    catalog = SQLiteCatalog()

    def identity(self, session: Any) -> DatabaseIdentity:
        """Query the file that SQLite has opened."""
        return identity_of_session(session)

    def own_settings(
        self,
        settings: dict[str, Any],
        *,
        patience: float,
        answer_timeout: float | None = None,
    ) -> dict[str, Any]:
        """Take the write lock when a transaction starts, and wait for it no longer than
        `patience`: an upgrade in mid-transaction fails without waiting."""
        del answer_timeout
        options = {
            **settings["OPTIONS"],
            "timeout": patience,
            "transaction_mode": "IMMEDIATE",
        }
        return {**settings, "OPTIONS": options}

    def limit_transaction(self, connection: BaseDatabaseWrapper) -> None:
        """Do nothing: it waits no longer than its connection, and ends with its process."""
        del connection

    def is_direct(self, first: BaseDatabaseWrapper, second: BaseDatabaseWrapper) -> bool:
        """Return True: nothing is between this process and the file."""
        del first, second
        return True

    def troubles(self, connection: BaseDatabaseWrapper) -> CatalogProblems:
        """Report none: an index exists or does not, and the table itself counts its ids."""
        del connection
        return NO_PROBLEMS

    def health(
        self, connection: BaseDatabaseWrapper, touched: Impact, settings: HealthSettings
    ) -> tuple[HealthSignal, ...]:
        return health.health(connection, file_of(connection), touched, settings)

    def health_without_connection(self, error: Exception) -> HealthSignal | None:
        """Return None: there is no server whose connections could be in use."""
        del error
        return None

    def forecaster(self, connection: BaseDatabaseWrapper) -> Forecaster:
        return SQLiteForecaster(connection)

    def colliding_index(self, connection: BaseDatabaseWrapper, sql: str) -> str | None:
        """Return None: no index is left half built."""
        del connection, sql
        return None

    def lock(self, connection: BaseDatabaseWrapper, slot: LockSlot) -> TargetLock:
        """Return the lock on the file beside the database."""
        return SQLiteLock(file_of(connection), slot)

    def sessions(self, connection: BaseDatabaseWrapper) -> Sessions:
        del connection
        return SQLiteSessions()

    def interrupt(self, connection: BaseDatabaseWrapper) -> None:
        """Make a statement fail with "interrupted"."""
        if connection.connection is not None:
            with suppress(sqlite3.ProgrammingError):  # closed meanwhile
                connection.connection.interrupt()

    def worker_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        return settings

    def prepare_worker_session(
        self, connection: BaseDatabaseWrapper, run: str, *, lock_timeout: float
    ) -> None:
        """Take the write lock when a transaction starts, and wait for it: an upgrade in
        mid-transaction fails at once if the application has just written."""
        del run, lock_timeout  # no session queues behind a waiting one
        own = vars(connection)  # only the SQLite wrapper has this attribute
        own["transaction_mode"] = own.get("transaction_mode") or "IMMEDIATE"
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {_WORKER_BUSY_TIMEOUT_MS}")

    def sidecar(self, connection: BaseDatabaseWrapper) -> Path | None:
        """Return the folder beside the file."""
        path = file_of(connection)
        return path.with_name(f"{path.name}.route")

    def is_private(self, connection: BaseDatabaseWrapper) -> bool:
        """Return whether the database is in the memory of this process."""
        return is_in_memory(name_of(connection))


VENDOR = SQLite()
