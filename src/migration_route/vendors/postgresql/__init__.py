"""PostgreSQL."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.interface import Slot, TargetLock
from migration_route.vendors.postgresql.catalog import PostgreSQLCatalog
from migration_route.vendors.postgresql.locks import PostgreSQLLock

_CONNECT_TIMEOUT = 5
_SET = "SELECT set_config(%s, %s, false)"


class PostgreSQL:
    """What is particular about PostgreSQL."""

    name = "postgresql"
    lock_is_of_session = True
    catalog = PostgreSQLCatalog()

    def own_settings(self, settings: dict[str, Any], *, patience: float) -> dict[str, Any]:
        """Leave the pool: it hands sessions on with what was set in them."""
        del patience
        options = {**settings["OPTIONS"]}
        options.pop("pool", None)
        options.setdefault("connect_timeout", _CONNECT_TIMEOUT)
        return {**settings, "OPTIONS": options}

    def lock(self, connection: BaseDatabaseWrapper, slot: Slot) -> TargetLock:
        """Return the advisory lock of the connection's database and schema."""
        return PostgreSQLLock(connection, slot)

    def prepare_worker_session(self, connection: BaseDatabaseWrapper, run: str) -> None:
        """Name the session, lift the time limits of the web role, and let the server
        notice within half a second when the worker is dead (PostgreSQL 14)."""
        with connection.cursor() as cursor:
            for setting, value in (
                ("application_name", f"migration-route:{run}"),
                ("statement_timeout", "0"),
                ("idle_in_transaction_session_timeout", "0"),
            ):
                cursor.execute(_SET, [setting, value])
            with suppress(DatabaseError):  # not on every platform that PostgreSQL runs on
                cursor.execute(_SET, ["client_connection_check_interval", "500ms"])

    def sidecar(self, connection: BaseDatabaseWrapper) -> Path | None:
        """Need none: writers do not wait for each other."""
        del connection
        return None

    def is_private(self, connection: BaseDatabaseWrapper) -> bool:
        """Tell that every process can see a server."""
        del connection
        return False


VENDOR = PostgreSQL()
