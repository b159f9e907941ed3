"""MySQL and MariaDB: GET_LOCK, which the server drops with its connection."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.interface import Slot, TargetLock

_CONNECT_TIMEOUT = 5
_WEEK = 7 * 24 * 3600


class MySQLLock:
    """A named lock of the session; its name has at most 64 characters."""

    def __init__(self, connection: BaseDatabaseWrapper, slot: Slot) -> None:
        self._connection = connection
        database = str(connection.settings_dict["NAME"]).encode()
        self._name = (
            f"migration-route:{slot.value}:{hashlib.sha256(database).hexdigest()[:32]}"
        )

    def try_acquire(self) -> bool:
        """Take the lock now, or return False at once."""
        return self._ask("SELECT GET_LOCK(%s, 0)")

    def release(self) -> bool:
        """Give the lock back; False when it was not held any more."""
        return self._ask("SELECT RELEASE_LOCK(%s)")

    def _ask(self, sql: str) -> bool:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, [self._name])
            (answer,) = cursor.fetchone()
        return bool(answer == 1)


class MySQL:
    """What is particular about MySQL and MariaDB."""

    name = "mysql"
    lock_is_of_session = True

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
