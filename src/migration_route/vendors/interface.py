"""What does the route ask of a database?"""

from __future__ import annotations

from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper


class Slot(IntEnum):
    """Which of a run's two processes holds a lock.

    The worker holds its own on its own connection, so that a backend orphaned in
    mid-statement keeps the door shut until it is gone.
    """

    SUPERVISOR = 1
    WORKER = 2


class TargetLock(Protocol):
    """One run per database, by a lock that the database drops with its holder."""

    def try_acquire(self) -> bool:
        """Take the lock now, or return False at once; never wait in the database."""

    def release(self) -> bool:
        """Give the lock back; False when it was not held any more."""


class CatalogReader(Protocol):
    """What a catalog says beyond Django's introspection."""

    def columns(self, cursor: CursorWrapper, table: str) -> dict[str, bool]:
        """Return the columns of a table, each with whether it is NOT NULL."""

    def invalid_indexes(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return the indexes of a table that the database keeps but does not use."""

    def drop_invalid_index(self, name: str) -> str:
        """Return the statement that takes such an index away; `name` is quoted."""

    def stored(self, name: str) -> str:
        """Return a name, quoted or not, in the one form in which names are compared."""


class Vendor(Protocol):
    """What is particular about one kind of database."""

    name: str
    lock_is_of_session: bool  # the lock goes with the connection that took it

    @property
    def catalog(self) -> CatalogReader:
        """Return who reads its catalog."""

    def own_settings(self, settings: dict[str, Any], *, patience: float) -> dict[str, Any]:
        """Return the settings of a connection that belongs to the route alone.

        `patience` is in seconds: how long to wait for a busy database.
        """

    def lock(self, connection: BaseDatabaseWrapper, slot: Slot) -> TargetLock:
        """Return the lock of this database, to be held through `connection`."""

    def prepare_worker_session(self, connection: BaseDatabaseWrapper, run: str) -> None:
        """Make an open session the worker's: name it, lift the web's limits."""

    def sidecar(self, connection: BaseDatabaseWrapper) -> Path | None:
        """Return a folder beside a database that keeps one writer, else None."""

    def is_private(self, connection: BaseDatabaseWrapper) -> bool:
        """Tell whether no other process can see this database."""
