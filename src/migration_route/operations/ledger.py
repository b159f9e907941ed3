"""Show the ledger, and whether it is as it was written."""

from __future__ import annotations

from django.db import DatabaseError

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise, readable
from migration_route.errors import DatabaseUnavailable
from migration_route.ledger import reading
from migration_route.ledger.records import EntryRecord
from migration_route.ledger.verification import Verification
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
