"""Reads the migration recorders of several databases side by side.

Each recorder is read in a thread and on a connection of its own, so a database that does
not respond delays no other one. The thread of a request waits for a limited time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf.databases import reader_connection
from migration_route.core.errors import DatabaseUnavailable
from migration_route.planning.graph import Applied, recorded_in
from migration_route.planning.graph import read_recorder as read_on_this_connection
from migration_route.vendors import unavailable, vendor_of

TIMEOUT = 5.0
"""Seconds to wait for a connection to a database, and again for its recorder."""

Recorded = Applied | DatabaseUnavailable
"""The recorded migrations of a database, or the error that says why they are unknown."""


class RecorderReading:
    """Open connections to several databases, and what is read through them."""

    def __init__(self, aliases: Iterable[str], timeout: float) -> None:
        self._timeout = timeout
        self._start = threading.Event()
        self._found: dict[str, Recorded] = {}
        self._shared: list[str] = []  # in memory: only this thread's connection has them
        self._readers: dict[str, _Reader] = {}
        for alias in dict.fromkeys(aliases):
            try:
                connection = reader_connection(alias, timeout=timeout)
            except DatabaseUnavailable as error:
                self._found[alias] = error
                continue
            if connection is None:
                self._shared.append(alias)
            else:
                self._readers[alias] = _Reader(connection, self._start, timeout)
        self._opened_until = time.monotonic() + timeout
        for alias, reader in self._readers.items():
            threading.Thread(
                target=reader.read, name=f"migration recorder of {alias}", daemon=True
            ).start()

    def problem_of(self, alias: str) -> DatabaseUnavailable | None:
        """Wait until a database is connected; return why it is not."""
        if (reader := self._readers.get(alias)) is not None:
            reader.connected.wait(self._opened_until - time.monotonic())
            return reader.problem
        found = self._found.get(alias)
        return found if isinstance(found, DatabaseUnavailable) else None

    def read(self) -> Mapping[str, Recorded]:
        """Return what each database records from now on, by alias."""
        self._start.set()
        for alias in self._shared:
            try:
                self._found[alias] = read_on_this_connection(alias)
            except DatabaseUnavailable as error:
                self._found[alias] = error
        until = max(self._opened_until, time.monotonic() + self._timeout)
        for alias, reader in self._readers.items():
            if not reader.connected.is_set():
                reader.connected.wait(self._opened_until - time.monotonic())
            wait = until if reader.connected.is_set() else self._opened_until
            reader.finished.wait(wait - time.monotonic())
            self._found[alias] = reader.found
        return self._found

    def close(self) -> None:
        """End the threads that wait for `read`."""
        self._start.set()


@contextmanager
def open_recorders(
    aliases: Iterable[str], *, timeout: float | None = None
) -> Iterator[RecorderReading]:
    """Open connections to these databases side by side. Returns without waiting."""
    reading = RecorderReading(aliases, TIMEOUT if timeout is None else timeout)
    try:
        yield reading
    finally:
        reading.close()


def read_recorders(
    aliases: Iterable[str], *, timeout: float | None = None
) -> Mapping[str, Recorded]:
    """Return the recorded migrations of these databases, by alias."""
    with open_recorders(aliases, timeout=timeout) as reading:
        return reading.read()


def read_recorder(alias: str) -> Applied:
    """Return the recorded migrations of one database, within the same limits.

    Raises `DatabaseUnavailable`.
    """
    found = read_recorders([alias])[alias]
    if isinstance(found, DatabaseUnavailable):
        raise found
    return found


@dataclass(slots=True)
class _Reader:
    """Reads one recorder in a thread of its own."""

    connection: BaseDatabaseWrapper
    start: threading.Event
    timeout: float
    connected: threading.Event = field(default_factory=threading.Event)  # or failed
    finished: threading.Event = field(default_factory=threading.Event)
    result: Recorded | None = None

    @property
    def found(self) -> Recorded:
        """The result; an error if there is none yet."""
        return self._no_response() if self.result is None else self.result

    @property
    def problem(self) -> DatabaseUnavailable | None:
        """Why the database is not connected."""
        if isinstance(self.result, DatabaseUnavailable):
            return self.result
        return None if self.connected.is_set() else self._no_response()

    def _no_response(self) -> DatabaseUnavailable:
        return DatabaseUnavailable(
            f"The database {self.connection.alias!r} does not answer (no response within "
            f"{self.timeout:g} seconds)."
        )

    def read(self) -> None:
        """Connect, wait for the start, read, and close the connection."""
        try:
            self.connection.ensure_connection()
            self.connected.set()
            self.start.wait()
            vendor = vendor_of(self.connection.alias)
            with vendor.limit_statements(self.connection, self.timeout):
                self.result = recorded_in(self.connection)
        except Exception as error:  # noqa: BLE001 - a backend raises errors of any kind
            self.result = unavailable(self.connection.alias, error)
        finally:
            self.connected.set()
            with suppress(DatabaseFailure):
                self.connection.close()
            self.finished.set()
