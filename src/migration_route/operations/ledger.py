"""Show the ledger, whether it is as it was written, and all of it to take away."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from django.db import DatabaseError

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise, readable
from migration_route.conf import route_settings
from migration_route.connecting import own_connection
from migration_route.errors import DatabaseUnavailable, Forbidden
from migration_route.ledger import reading
from migration_route.ledger.records import EntryRecord
from migration_route.ledger.verification import Verification, export_batch
from migration_route.ledger.verification import verify as verify_all
from migration_route.operations.recording import on_record
from migration_route.targets import all_aliases
from migration_route.vocabulary import Scope


def entries(
    actor: Actor, *, before: int | None = None, limit: int = 50
) -> list[EntryRecord]:
    """Return the entries of databases that the actor may read, newest first."""
    with on_record(actor, "ledger"):
        authorise(actor, Scope.READ)
        databases = readable(actor, all_aliases())
        return reading.list_entries(before=before, limit=limit, databases=databases)


def verify(actor: Actor) -> Verification:
    """Walk the whole ledger. Raises `DatabaseUnavailable` when it cannot be read."""
    with on_record(actor, "verify"):
        authorise(actor, Scope.READ)
        try:
            return verify_all()
        except DatabaseError as error:
            raise DatabaseUnavailable("The ledger cannot be read now.") from error


def export(actor: Actor, *, after: int = 0) -> Iterator[bytes]:
    """Return the lines of the whole ledger behind a sequence number, oldest first, in
    pieces of many lines: so much is in memory, and no session waits between two of them.

    A part of the ledger could not be verified: so whoever may read some databases only is
    refused. Raises `Forbidden` and `DatabaseUnavailable`; later too, as it is read.
    """
    with on_record(actor, "export"):
        authorise(actor, Scope.READ)
        if readable(actor, all_aliases()) is not None:
            raise Forbidden(
                f"{actor.name!r} may read some databases only, and the ledger is exported "
                "as a whole.",
                hint="Give it a right to read that names no databases.",
            )
        piece, last = _batch(after)
    return chain([piece] if piece else [], _rest(last) if piece else [])


def _rest(last: int) -> Iterator[bytes]:
    while True:
        piece, last = _batch(last)
        if not piece:
            return
        yield piece


def _batch(after: int) -> tuple[bytes, int]:
    with own_connection(route_settings().ledger_database):
        return export_batch(after)
