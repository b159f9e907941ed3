"""Is there room for the tables that are written anew? One rule for every database.

SQL does not tell how full a disk is. A server of this host can be looked at.

How are signals read that may be refused, or take too long? One by one, within a time.
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

from migration_route.core.error_texts import message_of
from migration_route.core.redaction import redact
from migration_route.core.values import (
    HealthSettings,
    HealthSignal,
    Impact,
    SignalName,
    needs_forecast,
    normal,
    stop,
    unknown,
)
from migration_route.vendors.base import Blocker

_NAME = SignalName.DISK
_BESIDES = " What has no forecast, such as Python, is not in it."


class DiskNotVisible(Exception):
    """Why the disk cannot be looked at, in one sentence."""


class DiskUsage(Protocol):
    """Where the tables of a database are, and how large they are."""

    keeps_old_rows: bool  # until a transaction ends that writes a table anew, again

    def folder(self) -> Path:
        """Return where its data is, on this host. Raises `Unseen`."""

    def sizes(self, tables: Iterable[str], *, is_exact: bool) -> Mapping[str, int]:
        """Return the bytes of tables by the place where they are: a path from that
        folder on, "" for itself. A table that is named twice counts twice.

        `is_exact`: the names are those of forecasts; else they are words, of which some
        are tables. Raises `Unseen` and `django.db.DatabaseError`.
        """


def disk_signal(
    rooms: DiskUsage, touched: Impact, settings: HealthSettings
) -> HealthSignal:
    """Compare what is free with what is written anew; first with the most that it may
    be, so that a forecast is made only where that would not fit."""
    told = touched.rewritten
    besides = _BESIDES if touched.unforeseen else ""
    if told == () or (told is None and touched.most_rewrites == 0):
        return normal(_NAME, f"No table is foretold to be rewritten.{besides}")
    names = sorted(touched.tables) if told is None else list(told)
    if not rooms.keeps_old_rows:
        names = list(dict.fromkeys(names))
    times = (touched.most_rewrites or 1) if told is None and rooms.keeps_old_rows else 1
    sizes: Mapping[str, int] = {}
    try:
        sizes = rooms.sizes(names, is_exact=told is not None)
        needs = {
            place: round(size * times * settings.disk) for place, size in sizes.items()
        }
        free, needed_there, place = _tightest(rooms.folder(), needs)
    except DiskNotVisible as why_not:
        needed = round(sum(sizes.values()) * settings.disk)
        known = {"needed": needed} if told and needed else {}
        return unknown(_NAME, f"{why_not}{besides}", **known)
    facts: dict[str, Any] = {
        "free": free,
        "tables": sum(sizes.values()) * times,
        "needed": needed_there,
        **({"place": place} if place else {}),
    }
    there = f" in {place}" if place else ""
    is_sure = told is not None or touched.most_rewrites is not None
    if free >= needed_there and is_sure:
        return normal(
            _NAME,
            f"{_read(free)} are free{there}; {_read(needed_there)} may be needed.{besides}",
            **facts,
        )
    if told is None:
        tell = unknown if touched.unforeseen else needs_forecast
        reason = "which tables are rewritten is not foretold."
        return tell(_NAME, f"{_read(free)} are free{there}, and {reason}", **facts)
    takes = f"rewriting takes {_read(needed_there)}"
    return stop(_NAME, f"{_read(free)} are free{there}, and {takes}.{besides}", **facts)


def _tightest(folder: Path, needs: Mapping[str, int]) -> tuple[int, int, str]:
    """Return what is free and what is needed at the place where most is missing."""
    looked = [
        (_free(folder / place), needed, place)
        for place, needed in (needs or {"": 0}).items()
    ]
    return min(looked, key=lambda one: one[0] - one[1])


def _free(folder: Path) -> int:
    """Return the bytes that are free for others than root. Raises `Unseen`."""
    try:
        found = os.statvfs(folder)
    except OSError as error:
        raise DiskNotVisible(f"{folder} cannot be looked at: {error.strerror}.") from error
    return found.f_bavail * found.f_frsize


def _read(size: int) -> str:
    return f"{size / 1024**2:,.0f} MB"


STATEMENT = 1.5
"""Seconds that one question may take."""

_ALL = 4.0  # seconds for all of them: a heart beats meanwhile, and a page waits
_SHOWN = 5  # sessions that are named
_WORDS = 200  # characters of a query that are shown

Reader = tuple[SignalName, Callable[[], HealthSignal]]


def read_all(readers: Iterable[Reader]) -> tuple[HealthSignal, ...]:
    """Read one signal after the other; what fails or comes too late is unknown."""
    deadline = time.monotonic() + _ALL
    found = []
    for name, read in readers:
        if time.monotonic() > deadline:
            found.append(unknown(name, "The database was too slow to be asked."))
            continue
        try:
            found.append(read())
        except DatabaseError as error:
            words = " ".join(message_of(error).split())[:_WORDS]
            found.append(unknown(name, f"It cannot be read: {words}"))
    return tuple(found)


def long_transaction(
    blockers: Iterable[Blocker], *, longer_than: float, of: str
) -> HealthSignal | None:
    """Return the signal about transactions that have lasted for so many seconds, None
    where there is none. `of` says what they have to do with."""
    old = [blocker for blocker in blockers if blocker.age > longer_than]
    if not old:
        return None
    oldest = max(old, key=lambda blocker: blocker.age)
    who = ", ".join(filter(None, (oldest.user, oldest.application)))
    others = f", and {len(old) - 1} more" if len(old) > 1 else ""
    maybe = " has" if oldest.certain else " may have"
    return stop(
        SignalName.LONG_TRANSACTION,
        f"A transaction of pid {oldest.pid} ({who or 'unknown'}){others}"
        f"{maybe} been at work {of} for {oldest.age:.0f} s.",
        sessions=[session_facts(blocker) for blocker in old[:_SHOWN]],
    )


def session_facts(blocker: Blocker) -> dict[str, object]:
    """Return a session as facts of a signal; secrets in its query are masked."""
    return {
        "pid": blocker.pid,
        "user": blocker.user,
        "application": blocker.application,
        "state": blocker.state,
        "since": blocker.since,
        "query": redact(" ".join(blocker.query.split()))[:_WORDS],
    }


def limited(connection: BaseDatabaseWrapper, *statements: str) -> None:
    """Set limits of the session; one that the server does not know is left out."""
    connection.ensure_connection()
    for statement in statements:
        with suppress(DatabaseFailure), connection.cursor() as cursor:
            cursor.execute(statement)
