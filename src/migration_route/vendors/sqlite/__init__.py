"""The SQLite implementation of `Vendor`: one writer, and a folder beside the file for data
that must wait."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from migration_route.core.values import HealthSettings, HealthSignal, Impact
from migration_route.vendors.base import (
    CatalogReader,
    DatabaseIdentity,
    LockSlot,
    Sessions,
    TargetLock,
    Vendor,
)
from migration_route.vendors.base_forecast import Forecaster
from migration_route.vendors.sqlite import health
from migration_route.vendors.sqlite.files import (
    SQLiteLock,
    SQLiteSessions,
    file_of,
    identity_of_session,
    is_in_memory,
    name_of,
)
from migration_route.vendors.sqlite.forecast import COPY, SQLiteForecaster

_WORKER_BUSY_TIMEOUT_MS = 60_000


class SQLiteCatalog(CatalogReader):
    def columns(self, cursor: CursorWrapper, table: str) -> dict[str, bool]:
        """Return the columns of a table, generated ones included, each with whether it is
        NOT NULL."""
        cursor.execute(
            'SELECT name, "notnull" FROM pragma_table_xinfo(%s) WHERE hidden <> 1', [table]
        )
        return {name: bool(not_null) for name, not_null in cursor.fetchall()}

    def has_rebuild_copy(self, tables: Collection[str]) -> bool:
        """Find the copy that Django fills before it drops the table itself
        (`DatabaseSchemaEditor._remake_table`)."""
        return any(name.startswith(COPY) for name in tables)

    def stored(self, name: str) -> str:
        """Return equal names for names that SQLite considers equal: all are
        case-insensitive."""
        return name.strip('"').lower()


class SQLite(Vendor):
    name = "sqlite"
    lock_is_of_session = False
    catalog = SQLiteCatalog()

    def identity(self, session: Any) -> DatabaseIdentity:
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

    def health(
        self, connection: BaseDatabaseWrapper, touched: Impact, settings: HealthSettings
    ) -> tuple[HealthSignal, ...]:
        return health.health(connection, file_of(connection), touched, settings)

    def forecaster(self, connection: BaseDatabaseWrapper) -> Forecaster:
        return SQLiteForecaster(connection)

    def lock(self, connection: BaseDatabaseWrapper, slot: LockSlot) -> TargetLock:
        return SQLiteLock(file_of(connection), slot)

    def sessions(self, connection: BaseDatabaseWrapper) -> Sessions:
        del connection
        return SQLiteSessions()

    def interrupt(self, connection: BaseDatabaseWrapper) -> None:
        """Make a statement fail with "interrupted"."""
        if connection.connection is not None:
            with suppress(sqlite3.ProgrammingError):  # closed meanwhile
                connection.connection.interrupt()

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
        path = file_of(connection)
        return path.with_name(f"{path.name}.route")

    def is_private(self, connection: BaseDatabaseWrapper) -> bool:
        return is_in_memory(name_of(connection))


VENDOR = SQLite()
