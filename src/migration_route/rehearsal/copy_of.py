"""Is the copy another database, and is its schema what it was?"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf import route_settings
from migration_route.connecting import new_connection, own_settings
from migration_route.errors import CannotRehearse
from migration_route.running.messages import Scratch
from migration_route.running.work.copied import settings_of
from migration_route.vendors import copies_of, identity_of, vendor_of
from migration_route.vendors.identity import Separation, opened, require_separate
from migration_route.vendors.interface import Slot

_MOST = 200  # lines of difference


def require_other(database: str, connection: BaseDatabaseWrapper, alias: str) -> Separation:
    """Return the identities of a database and of the one that another alias leads to.

    The caller holds the lock of the database's rehearsals: it cannot be taken again in
    the same database. Raises `CannotRehearse` where both are the same database, where
    that is not known, and where the other one is not of the same kind.
    """
    if connections[alias].vendor != connection.vendor:
        raise CannotRehearse(
            f"{alias!r} is not a database of the same kind as {database!r}."
        )
    found = _require_separate(database, connection, settings_of(database, alias=alias))
    other = new_connection(alias)
    try:
        lock = vendor_of(alias).lock(other, Slot.REHEARSAL)
        if not lock.try_acquire():
            raise CannotRehearse(
                f"{alias!r} leads to the same database as {database!r}, or is in use by "
                "another rehearsal.",
                hint='"rehearse_on" must name a database that may be changed.',
            )
        lock.release()
    finally:
        other.close()
    return found


def require_made(database: str, connection: BaseDatabaseWrapper, name: str) -> Separation:
    """Return the identities of a database and of its copy of that name.

    Raises `CannotRehearse` where the settings of the copy lead elsewhere.
    """
    return _require_separate(database, connection, settings_of(database, name=name))


def _require_separate(
    database: str, connection: BaseDatabaseWrapper, copy_settings: dict[str, Any]
) -> Separation:
    """Compare with the database as `connection` reaches it, and as the project does."""
    with opened(connection, own_settings(database, copy_settings)) as copy:
        found = require_separate(connection, copy)
        if route_settings().database(database).direct:
            usual = connections[database]
            with opened(usual, own_settings(database, usual.settings_dict)) as same:
                require_separate(same, copy)
    return found


@contextmanager
def copy_connection(database: str, scratch: Scratch) -> Iterator[BaseDatabaseWrapper]:
    """Let the alias lead to the copy, in this thread and block.

    Raises `CannotRehearse` where it leads to any other database.
    """
    usual = connections[database]
    copy = new_connection(database)
    copy.settings_dict = {
        **copy.settings_dict,
        **own_settings(
            database, settings_of(database, name=scratch.name, alias=scratch.alias)
        ),
    }
    try:
        found = identity_of(copy)
        if found != scratch.separation.copy:
            raise CannotRehearse(
                f"The connection to the copy stands in the database {found.label!r}: its "
                "schema was not read."
            )
        connections[database] = copy
        yield copy
    finally:
        connections[database] = usual
        copy.close()


def schema(database: str, scratch: Scratch) -> list[str]:
    """Return the schema of the copy as lines."""
    with copy_connection(database, scratch) as connection:
        return copies_of(database).schema(connection)


def differences(before: list[str], after: list[str]) -> tuple[str, ...]:
    """Return the lines that went ("-") and came ("+")."""
    lines = difflib.unified_diff(before, after, lineterm="", n=0)
    found = [line for line in lines if line[:3] not in {"---", "+++"} and line[:2] != "@@"]
    return tuple(found[:_MOST])
