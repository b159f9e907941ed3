"""PostgreSQL: advisory locks of the session, polled."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any
from zlib import crc32

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.interface import Slot, TargetLock

# The first key of pg_try_advisory_lock(int, int); the second one names the schema. The
# database is part of every advisory lock (manual, 13.3.5).
_LOCK_CLASS = {Slot.SUPERVISOR: 0x6D726F75, Slot.WORKER: 0x6D726F76}
_CONNECT_TIMEOUT = 5
_SET = "SELECT set_config(%s, %s, false)"


class PostgreSQLLock:
    """A session advisory lock. Never waited for in the database: a blocked waiter
    holds a snapshot and deadlocks with the holder's CREATE INDEX CONCURRENTLY."""

    def __init__(self, connection: BaseDatabaseWrapper, slot: Slot) -> None:
        self._connection = connection
        self._class = _LOCK_CLASS[slot]

    def try_acquire(self) -> bool:
        """Take the lock now, or return False at once."""
        return self._ask("pg_try_advisory_lock")

    def release(self) -> bool:
        """Give the lock back; False when it was not held any more."""
        return self._ask("pg_advisory_unlock")

    def _ask(self, function: str) -> bool:
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT coalesce(current_schema(), '')")
            (schema,) = cursor.fetchone()
            # crc32 is unsigned, the key is a signed integer of four bytes
            key = crc32(schema.encode()) - 2**31
            cursor.execute(f"SELECT {function}(%s, %s)", [self._class, key])
            (answer,) = cursor.fetchone()
        return bool(answer)


class PostgreSQL:
    """What is particular about PostgreSQL."""

    name = "postgresql"
    lock_is_of_session = True

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
