"""The PostgreSQL database that the operations are executed in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.db import connections

from tests.harness import databases

ALIAS = "foretold"


@contextmanager
def a_database(folder: Path) -> Iterator[str]:
    """Yield the alias of a new, empty database; raises `databases.NotHere`."""
    made = databases.create("postgres", folder)
    template = connections.settings["default"]
    connections.settings[ALIAS] = {**template, **made.settings(), "OPTIONS": {}}
    try:
        yield ALIAS
    finally:
        connections[ALIAS].close()
        del connections[ALIAS]
        del connections.settings[ALIAS]
        made.drop()
