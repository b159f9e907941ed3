"""Health checks that all databases share: disk space for rewritten tables, long
transactions, and reading signals one by one within a time limit.

SQL does not report free disk space: only a server on this host can be examined.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from django.db import DatabaseError
from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.redaction import message_of, redact
from migration_route.core.values import (
    HealthSettings,
    HealthSignal,
    Impact,
    SignalName,
    needs_forecast,
    normal_signal,
    stop_signal,
    unknown_signal,
)
from migration_route.vendors import fetch_rows
from migration_route.vendors.base import Blocker

_NAME = SignalName.DISK
_BESIDES = " Operations without a forecast, such as Python, are not included."


class DiskNotVisible(Exception):
    """The disk cannot be examined. The message is the reason, in one sentence."""


class DiskUsage(Protocol):
    """Where the tables of a database are stored, and their sizes."""

    # Of a table rewritten repeatedly in a transaction, until it ends. False where each
    # alteration commits, or where a copy reuses the pages of the one before.
    keeps_old_rows: bool = False

    def folder(self) -> Path:
        """Return the data directory on this host. Raises `DiskNotVisible`."""

    def sizes(self, tables: Iterable[str], *, is_exact: bool) -> Mapping[str, int]:
        """Return the bytes of tables by location: a path from the data directory on, "" for
        the directory itself. A table that is named twice counts twice.

        `is_exact`: the names come from forecasts; otherwise they are words, some of which
        are tables. Raises `DiskNotVisible` and `django.db.DatabaseError`.
        """


def disk_signal(
    rooms: DiskUsage, touched: Impact, settings: HealthSettings
) -> HealthSignal:
    """Compare the free space with what rewrites need.

    The maximum is checked first, so that a forecast is made only where it would not fit.
    """
    rewritten = touched.rewritten
    besides = _BESIDES if touched.unforecast else ""
    if rewritten == () or (rewritten is None and touched.most_rewrites == 0):
        return normal_signal(_NAME, f"No table is forecast to be rewritten.{besides}")
    names = sorted(touched.tables) if rewritten is None else list(rewritten)
    if not rooms.keeps_old_rows:
        names = list(dict.fromkeys(names))
    times = (
        (touched.most_rewrites or 1) if rewritten is None and rooms.keeps_old_rows else 1
    )
    sizes: Mapping[str, int] = {}
    try:
        sizes = rooms.sizes(names, is_exact=rewritten is not None)
        needs = {
            place: round(size * times * settings.disk) for place, size in sizes.items()
        }
        free, needed_there, place = _tightest(rooms.folder(), needs)
    except DiskNotVisible as error:
        needed = round(sum(sizes.values()) * settings.disk)
        known = {"needed": needed} if rewritten and needed else {}
        return unknown_signal(_NAME, f"{error}{besides}", **known)
    facts: dict[str, Any] = {
        "free": free,
        "tables": sum(sizes.values()) * times,
        "needed": needed_there,
        **({"place": place} if place else {}),
    }
    there = f" in {place}" if place else ""
    is_sure = rewritten is not None or touched.most_rewrites is not None
    if free >= needed_there and is_sure:
        return normal_signal(
            _NAME,
            f"{_megabytes(free)} are free{there}; up to {_megabytes(needed_there)} are "
            f"needed.{besides}",
            **facts,
        )
    if rewritten is None:
        signal = unknown_signal if touched.unforecast else needs_forecast
        reason = "no forecast says which tables are rewritten."
        return signal(_NAME, f"{_megabytes(free)} are free{there}, but {reason}", **facts)
    needs_text = f"rewriting tables needs {_megabytes(needed_there)}"
    return stop_signal(
        _NAME, f"{_megabytes(free)} are free{there}, but {needs_text}.{besides}", **facts
    )


def _tightest(folder: Path, needs: Mapping[str, int]) -> tuple[int, int, str]:
    """Return free bytes, needed bytes and location where most space is missing."""
    candidates = [
        (_free(folder / place), needed, place)
        for place, needed in (needs or {"": 0}).items()
    ]
    return min(candidates, key=lambda one: one[0] - one[1])


def _free(folder: Path) -> int:
    """Return the bytes available to users other than root. Raises `DiskNotVisible`."""
    try:
        usage = os.statvfs(folder)
    except OSError as error:
        raise DiskNotVisible(f"{folder} cannot be examined: {error.strerror}.") from error
    return usage.f_bavail * usage.f_frsize


def _megabytes(size: int) -> str:
    return f"{size / 1024**2:,.0f} MB"


QUERY_TIMEOUT = 1.5
"""Time limit of one query, in seconds."""

_ALL = 4.0  # seconds for all signals: heartbeats are due meanwhile, and a page waits
_SHOWN = 5  # sessions that are listed
_WORDS = 200  # characters of a query that are shown

SignalReader = tuple[SignalName, Callable[[], HealthSignal]]
SERVER_IS_FULL = stop_signal(
    SignalName.CONNECTIONS, "The server accepts no more connections."
)


class SignalReading:
    """Reads the signals of one database once; each vendor has its own queries."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        touched: Impact,
        settings: HealthSettings,
        usage: DiskUsage,
    ) -> None:
        self._connection = connection
        self._touched = touched
        self._settings = settings
        self._usage = usage

    def _rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return fetch_rows(self._connection, query, values or None)

    def disk(self) -> HealthSignal:
        return disk_signal(self._usage, self._touched, self._settings)

    def _connections_in_use(self, used: int, admitted: int) -> HealthSignal:
        is_full = used > admitted * self._settings.connections
        return (stop_signal if is_full else normal_signal)(
            SignalName.CONNECTIONS,
            f"{used} of {admitted} connections are in use.",
            used=used,
            admitted=admitted,
        )


def read_signals(readers: Iterable[SignalReader]) -> tuple[HealthSignal, ...]:
    """Read the signals one by one; one that fails or comes too late is unknown."""
    deadline = time.monotonic() + _ALL
    signals = []
    for name, read in readers:
        if time.monotonic() > deadline:
            signals.append(
                unknown_signal(name, "The database was too slow: this was not checked.")
            )
            continue
        try:
            signals.append(read())
        except DatabaseError as error:
            text = " ".join(message_of(error).split())[:_WORDS]
            signals.append(unknown_signal(name, f"This cannot be read: {text}"))
    return tuple(signals)


def long_transaction(
    blockers: Iterable[Blocker], *, longer_than: float, of: str
) -> HealthSignal | None:
    """Return the signal about transactions older than `longer_than` seconds, or None.

    `of` ends the sentence: how they relate to the change.
    """
    old = [blocker for blocker in blockers if blocker.age > longer_than]
    if not old:
        return None
    oldest = max(old, key=lambda blocker: blocker.age)
    who = ", ".join(filter(None, (oldest.user, oldest.application)))
    others = f", and {len(old) - 1} more" if len(old) > 1 else ""
    verb = ("have" if others else "has") if oldest.certain else "may have"
    return stop_signal(
        SignalName.LONG_TRANSACTION,
        f"A transaction of pid {oldest.pid} ({who or 'unknown'}){others} "
        f"{verb} been open for {oldest.age:.0f} s{of}.",
        sessions=[session_facts(blocker) for blocker in old[:_SHOWN]],
    )


def session_facts(blocker: Blocker) -> dict[str, object]:
    """Return a session as facts of a signal, with secrets in its query masked."""
    return {
        "pid": blocker.pid,
        "user": blocker.user,
        "application": blocker.application,
        "state": blocker.state,
        "since": blocker.since,
        "query": redact(" ".join(blocker.query.split()))[:_WORDS],
    }


def set_session_limits(connection: BaseDatabaseWrapper, *statements: str) -> None:
    """Set limits of the session; skip those that the server does not know."""
    connection.ensure_connection()
    for statement in statements:
        with suppress(DatabaseFailure), connection.cursor() as cursor:
            cursor.execute(statement)
