"""The identity of a database, as its server reports it, never as the settings name it.

`OPTIONS`, service files, option files, initial commands and backends override `NAME`. Code
that drops, dumps or restores compares identities first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.errors import CannotRehearse
from migration_route.vendors import identity_of
from migration_route.vendors.base_rehearsal import is_scratch_name

_OVERRULED = (
    "OPTIONS (database, db, dbname, init_command), a service file, an option file or the "
    "backend overrides NAME. Name the database in NAME only."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseIdentity:
    """A database, as its server identifies it."""

    server: str  # unique among servers; "" if unknown
    name: str  # unique among the databases of a server; "" if unknown
    label: str = field(default="", compare=False)  # the name that users see

    @property
    def is_known(self) -> bool:
        """Whether this identity can be compared."""
        return bool(self.server and self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """An original and its copy, verified to be two databases."""

    original: DatabaseIdentity
    copy: DatabaseIdentity


@contextmanager
def connection_with_settings(
    connection: BaseDatabaseWrapper, settings: dict[str, Any]
) -> Iterator[BaseDatabaseWrapper]:
    """Yield a copy of a connection with other settings; close it afterwards."""
    other = connection.copy()
    other.settings_dict = {**connection.settings_dict, **settings}
    try:
        yield other
    finally:
        other.close()


def require_separate(
    original: BaseDatabaseWrapper, copy: BaseDatabaseWrapper
) -> Separation:
    """Return the identities of two databases.

    The original is queried twice, in one session, so that a restart of its server cannot
    make one server look like two. Raises `CannotRehearse` if they are the same or if one is
    unknown, and `django.db.Error` if one does not answer.
    """
    first, other = identity_of(original), identity_of(copy)
    if not first.is_known or not other.is_known or identity_of(original) != first:
        raise CannotRehearse(
            "The server does not report which database a connection uses, so the copy "
            "cannot be distinguished from the original. Nothing was changed.",
            hint="Name the database in the settings of this alias, and connect directly to "
            "the server.",
        )
    if first == other:
        raise CannotRehearse(
            f"The copy and the original are the same database, {first.label!r}. "
            "Nothing was changed.",
            hint=_OVERRULED,
        )
    return Separation(original=first, copy=other)


def require_copy(
    original: BaseDatabaseWrapper, copy: BaseDatabaseWrapper, *, name: str
) -> Separation:
    """Return the identities of a database and of its copy on the same server.

    `name` is the server's name of the copy. Raises what `require_separate` raises, and
    `CannotRehearse` if the connection leads to any other database.
    """
    pair = require_separate(original, copy)
    if pair.copy.name != name or pair.copy.server != pair.original.server:
        raise CannotRehearse(
            f"The connection to the copy {name!r} uses the database "
            f"{pair.copy.label!r} instead. Nothing was changed there.",
            hint=_OVERRULED,
        )
    return pair


def require_removable(connection: BaseDatabaseWrapper, name: str) -> None:
    """Raise `CannotRehearse` unless a database of this name can only be a copy of the
    database of `connection`, by its name and by what the server reports of `connection`."""
    if not is_scratch_name(name):
        raise CannotRehearse(f"{name!r} is not a rehearsal database.")
    original = identity_of(connection)
    if not original.is_known:
        raise CannotRehearse(
            f"The server does not report which database the connection "
            f"{connection.alias!r} uses. The copy {name!r} was not removed.",
            hint="Name the database in the settings of this alias.",
        )
    if original.label == name or original.name == name:
        raise CannotRehearse(
            f"The connection {connection.alias!r} uses the database {name!r} itself. "
            "It was not removed.",
            hint="Point the alias to the database that was copied.",
        )
