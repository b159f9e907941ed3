"""How is a copy of a database made, and what is seen of a statement on it?"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper

_NAME = re.compile(r"migration_route_rehearsal_[0-9a-f]{32}")
BOOKKEEPING = ("django_migrations", "django_content_type", "auth_permission")
"""Tables whose rows `migrate` itself reads: they come along without the data as well."""

Alive = Callable[[], None]
"""Called while a copy is being made; raises where it is to stop."""


def scratch_name(rehearsal: str) -> str:
    """Return the name of the database that is made for a rehearsal."""
    return f"migration_route_rehearsal_{rehearsal}"


def is_scratch_name(name: str) -> bool:
    """Tell whether a database of this name may be dropped, as far as its name goes."""
    return _NAME.fullmatch(name) is not None


def verified(session: Any, verify: Callable[[Any], None] | None) -> Any:
    """Return a new session of a driver; it is closed where `verify` raises."""
    if verify is None:
        return session
    try:
        verify(session)
        if getattr(session, "autocommit", False) is not True:
            session.rollback()  # the question has begun a transaction
    except BaseException:
        session.close()
        raise
    return session


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is new since the last look in the same transaction."""

    locks: tuple[tuple[str, str], ...] | None = None  # table and mode; None: not seen
    rewrites: tuple[str, ...] = ()


class Observer(Protocol):
    """Somebody who looks at what a statement did, through the session that sent it."""

    blind: str  # why it cannot see locks; "" where it can

    def remember(self, connection: BaseDatabaseWrapper) -> None:
        """Note which tables there are before the plan: only those are looked at."""

    def look(self, connection: BaseDatabaseWrapper, sql: str) -> Seen:
        """Look at what the statement did that has just been carried out.

        Sent past Django's cursor: it is no statement of the migration.
        """

    def blocks(self, mode: str) -> tuple[str, ...]:
        """Return who waits for a lock of this mode, in the words of `forecast.Blocked`."""


class Copies(Protocol):
    """How copies of one kind of database are made and removed."""

    def require(self, connection: BaseDatabaseWrapper, *, with_data: bool) -> None:
        """Raise `CannotRehearse` where tools, rights or space are missing, and say what
        to do; nothing has begun then."""

    def settings(self, settings: dict[str, Any], name: str) -> dict[str, Any]:
        """Return the settings of a connection to the copy of that name."""

    def make(
        self, connection: BaseDatabaseWrapper, name: str, *, with_data: bool, alive: Alive
    ) -> None:
        """Make the copy. `connection` holds the lock of the rehearsal: the database is
        made through it, so that it cannot come into being after the lock is free.

        Raises `CannotRehearse`.
        """

    def remove(self, connection: BaseDatabaseWrapper, name: str) -> None:
        """Remove the copy, whoever is connected to it, if it is there."""

    def schema(self, connection: BaseDatabaseWrapper) -> list[str]:
        """Return the schema of a copy as lines that can be compared."""

    def leaves(
        self, sql: str, home: str, connection: BaseDatabaseWrapper | None = None
    ) -> str:
        """Tell what a statement reaches beyond its own database; "" where nothing.

        `home` is the database that the copy was made of: to name it is to leave. With an
        open connection it is read in the mode of its session, else in the usual one.
        """

    def watch_drivers(
        self, look: Callable[[str], None], verify: Callable[[Any], None] | None = None
    ) -> None:
        """Let `look` hear the name, or the file, of every database that this process
        connects to from now on, past Django as well; what it raises prevents that.

        `verify` gets each new session of the driver before whoever wanted it does; the
        session is closed when it raises. A file is known by its path, before it is opened:
        for SQLite it is not called.
        """

    def observer(self) -> Observer:
        """Return somebody who looks at statements."""
