"""The identity of a database: what its server says, never what the settings say.

`NAME` is overruled by `OPTIONS`, service files, option files, initial commands and
backends. Code that drops, dumps or restores compares identities first.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.errors import CannotRehearse
from migration_route.vendors import identity_of
from migration_route.vendors.base_copies import is_scratch_name

_OVERRULED = (
    "NAME is overruled by OPTIONS (database, db, dbname, init_command), by a service "
    "file, by an option file, or by the backend: let NAME alone name the database."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseIdentity:
    """A database, by what its server says."""

    server: str  # differs between any two servers; "" where it is not known
    name: str  # differs between any two databases of a server; "" where it is not known
    label: str = field(default="", compare=False)  # what a reader calls it

    @property
    def is_known(self) -> bool:
        """Tell whether it can be compared."""
        return bool(self.server and self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """An original and its copy, which were found to be two databases."""

    original: DatabaseIdentity
    copy: DatabaseIdentity


@contextmanager
def opened(
    connection: BaseDatabaseWrapper, settings: dict[str, Any]
) -> Iterator[BaseDatabaseWrapper]:
    """Yield a connection like this one, with other settings; it is closed afterwards."""
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

    The original is asked twice, in one session, so that a restart of its server cannot
    make one server look like two. Raises `CannotRehearse` where they are the same, or
    where one is not known; `django.db.Error` where one does not answer.
    """
    first, other = identity_of(original), identity_of(copy)
    if not first.is_known or not other.is_known or identity_of(original) != first:
        raise CannotRehearse(
            "The server does not tell which database a connection stands in, so the copy "
            "cannot be told from the original. Nothing was changed.",
            hint="Name the database in the settings of this alias, and let the connection "
            "lead to the server itself.",
        )
    if first == other:
        raise CannotRehearse(
            f"The copy leads to the same database as the original, {first.label!r}. "
            "Nothing was changed.",
            hint=_OVERRULED,
        )
    return Separation(original=first, copy=other)


def require_copy(
    original: BaseDatabaseWrapper, copy: BaseDatabaseWrapper, *, name: str
) -> Separation:
    """Return the identities of a database and of the copy that was made on its server.

    `name` is the one that the server knows the copy by. Raises what `require_separate`
    raises, and `CannotRehearse` where the connection stands anywhere else.
    """
    found = require_separate(original, copy)
    if found.copy.name != name or found.copy.server != found.original.server:
        raise CannotRehearse(
            f"The connection to the copy {name!r} stands in the database "
            f"{found.copy.label!r} instead. Nothing was changed there.",
            hint=_OVERRULED,
        )
    return found


def require_removable(connection: BaseDatabaseWrapper, name: str) -> None:
    """Raise `CannotRehearse` unless a database of this name can only be a copy of the one
    that `connection` stands in: by its name, and because the server says where that is."""
    if not is_scratch_name(name):
        raise CannotRehearse(f"{name!r} is no database of a rehearsal.")
    original = identity_of(connection)
    if not original.is_known:
        raise CannotRehearse(
            f"The server does not tell which database the connection {connection.alias!r} "
            f"stands in: the copy {name!r} was not removed.",
            hint="Name the database in the settings of this alias.",
        )
    if original.label == name or original.name == name:
        raise CannotRehearse(
            f"The connection {connection.alias!r} stands in the database {name!r} itself: "
            "it was not removed.",
            hint="Let the alias lead to the database that the copy was made of.",
        )
