"""Is the copy another database, and is its schema what it was?"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.connecting import new_connection
from migration_route.errors import CannotRehearse
from migration_route.running.messages import Scratch
from migration_route.running.work.copied import scratch_settings
from migration_route.vendors import copies_of, vendor_of
from migration_route.vendors.interface import Slot

_MOST = 200  # lines of difference


def refuse_the_same(database: str, way: str) -> None:
    """Raise `CannotRehearse` where `way` leads to the database that is to be spared.

    The caller holds the lock of its rehearsals: whoever can take that again elsewhere is
    in another database.
    """
    if connections[way].vendor != connections[database].vendor:
        raise CannotRehearse(f"{way!r} is not a database of the same kind as {database!r}.")
    other = new_connection(way)
    try:
        lock = vendor_of(way).lock(other, Slot.REHEARSAL)
        if not lock.try_acquire():
            raise CannotRehearse(
                f"{way!r} leads to the same database as {database!r}, or is in use by "
                "another rehearsal.",
                hint='"rehearse_on" must name a database that may be changed.',
            )
        lock.release()
    finally:
        other.close()


@contextmanager
def copy_connection(database: str, scratch: Scratch) -> Iterator[BaseDatabaseWrapper]:
    """Let the alias lead to the copy, in this thread and block."""
    usual = connections[database]
    copy = new_connection(scratch.alias or database)
    settings = scratch_settings(database, scratch)
    copy.settings_dict = {**copy.settings_dict, "NAME": settings["NAME"]}
    copy.alias = database
    connections[database] = copy
    try:
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
