"""MySQL and MariaDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.interface import Slot, TargetLock
from migration_route.vendors.mysql.catalog import MySQLCatalog
from migration_route.vendors.mysql.locks import MySQLLock

_CONNECT_TIMEOUT = 5
_WEEK = 7 * 24 * 3600


class MySQL:
    """What is particular about MySQL and MariaDB."""

    name = "mysql"
    lock_is_of_session = True
    catalog = MySQLCatalog()

    def own_settings(self, settings: dict[str, Any], *, patience: float) -> dict[str, Any]:
        """Answer soon when the server cannot be reached."""
        del patience
        options = {**settings["OPTIONS"]}
        if "read_default_file" not in options:
            options.setdefault("connect_timeout", _CONNECT_TIMEOUT)
        return {**settings, "OPTIONS": options}

    def lock(self, connection: BaseDatabaseWrapper, slot: Slot) -> TargetLock:
        """Return the named lock of the connection's database."""
        return MySQLLock(connection, slot)

    def prepare_worker_session(self, connection: BaseDatabaseWrapper, run: str) -> None:
        """Keep the session while a migration computes without asking the server."""
        del run
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION wait_timeout = %s", [_WEEK])

    def sidecar(self, connection: BaseDatabaseWrapper) -> Path | None:
        """Need none: writers do not wait for each other."""
        del connection
        return None

    def is_private(self, connection: BaseDatabaseWrapper) -> bool:
        """Tell that every process can see a server."""
        del connection
        return False


VENDOR = MySQL()
