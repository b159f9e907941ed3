"""How are signals read that may be refused, or take too long? One by one, within a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from django.db import DatabaseError
from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.error_texts import message_of
from migration_route.health import Signal, SignalName, stop, unknown
from migration_route.masking import masked
from migration_route.vendors.interface import Blocker

STATEMENT = 1.5
"""Seconds that one question may take."""

_ALL = 4.0  # seconds for all of them: a heart beats meanwhile, and a page waits
_SHOWN = 5  # sessions that are named
_WORDS = 200  # characters of a query that are shown

Reader = tuple[SignalName, Callable[[], Signal]]


def read_all(readers: Iterable[Reader]) -> tuple[Signal, ...]:
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
) -> Signal | None:
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
        "query": masked(" ".join(blocker.query.split()))[:_WORDS],
    }


def limited(connection: BaseDatabaseWrapper, *statements: str) -> None:
    """Set limits of the session; one that the server does not know is left out."""
    connection.ensure_connection()
    for statement in statements:
        with suppress(DatabaseFailure), connection.cursor() as cursor:
            cursor.execute(statement)
