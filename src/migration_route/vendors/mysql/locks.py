"""One run per database: GET_LOCK, which the server drops with its connection."""

from __future__ import annotations

import hashlib
import time
from uuid import uuid4

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from migration_route.errors import Misconfigured
from migration_route.vendors.interface import Slot

_DATABASE = "SELECT DATABASE(), @@GLOBAL.lower_case_table_names"
_ENDS_WITHIN = 1.5  # seconds that a session may take to end after its connection
_LOOK = 0.02


class MySQLLock:
    """A named lock of the session; its name has at most 64 characters."""

    def __init__(self, connection: BaseDatabaseWrapper, slot: Slot) -> None:
        self._connection = connection
        self._slot = slot
        self._known_name = ""

    def try_acquire(self) -> bool:
        """Take the lock now, or return False at once."""
        return self._ask("SELECT GET_LOCK(%s, 0)")

    def release(self) -> bool:
        """Give the lock back; False when it was not held any more."""
        return self._ask("SELECT RELEASE_LOCK(%s)")

    def is_held(self) -> bool:
        """Tell whether this session still holds it; False when the session has ended."""
        try:
            return self._ask("SELECT IS_USED_LOCK(%s) = CONNECTION_ID()")
        except DatabaseError:
            return False

    def holder(self) -> int | None:
        """Return the id of the connection that holds the lock."""
        with self._connection.cursor() as cursor:
            cursor.execute("SELECT IS_USED_LOCK(%s)", [self._name(cursor)])
            (pid,) = cursor.fetchone()
        return None if pid is None else int(pid)

    def _ask(self, sql: str) -> bool:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, [self._name(cursor)])
            (answer,) = cursor.fetchone()
        return bool(answer == 1)

    def _name(self, cursor: CursorWrapper) -> str:
        """Return the name of the lock, by the name that the server gives the database.

        Aliases with other settings that lead to the same database share it. Raises
        `Misconfigured` where the connection stands in no database.
        """
        if not self._known_name:
            cursor.execute(_DATABASE)
            database, folds = cursor.fetchone()
            if database is None:
                raise Misconfigured(
                    f"The alias {self._connection.alias!r} leads to a server, and to no "
                    "database there.",
                    hint="Name the database: NAME, or database= in its option file.",
                )
            text = database.decode() if isinstance(database, bytes) else str(database)
            text = text.lower() if int(folds) else text
            digest = hashlib.sha256(text.encode()).hexdigest()[:32]
            self._known_name = f"migration-route:{self._slot.value}:{digest}"
        return self._known_name


def lock_ends_with_connection(
    first: BaseDatabaseWrapper, second: BaseDatabaseWrapper
) -> bool:
    """Tell whether a lock is free when `first`, the connection that took it, is closed.

    A pool below Django keeps the session, and the lock with it. `second` sees that,
    whichever session it is given. One connection is open at a time: a pool may hold no
    more.
    """
    canary = f"migration-route:{uuid4().hex}"
    _value(first, "SELECT GET_LOCK(%s, 0)", canary)
    first.close()
    deadline = time.monotonic() + _ENDS_WITHIN
    try:
        while _value(second, "SELECT IS_USED_LOCK(%s)", canary) is not None:
            if _value(second, "SELECT RELEASE_LOCK(%s)", canary) == 1:
                return False  # it was given the same session
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK)
        return True
    finally:
        second.close()


def _value(connection: BaseDatabaseWrapper, sql: str, name: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(sql, [name])
        (answer,) = cursor.fetchone()
    return answer
