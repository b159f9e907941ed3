"""Which bodies tell of the ledger?"""

from __future__ import annotations

from typing import Any

from migration_route.wire.body import Answer
from migration_route.wire.runs import ActorAnswer


class EntryAnswer(Answer, frozen=True, kw_only=True):
    """One line of the ledger."""

    sequence: int
    at: str
    action: str
    actor: ActorAnswer
    address: str
    database: str
    run: str | None
    build: str
    facts: dict[str, Any]
    previous: str
    digest: str


class EntriesAnswer(Answer, frozen=True, kw_only=True):
    """Lines of the ledger, newest first; `next` is the cursor of the following page."""

    entries: list[EntryAnswer]
    next: int | None


class VerificationAnswer(Answer, frozen=True, kw_only=True):
    """Is the ledger as it was written?"""

    intact: bool
    entries: int
    broken: int | None = None
    message: str = ""


class ExportedEntry(Answer, frozen=True, kw_only=True):
    """One line of an export, as it is stored: `digest` is that of all its other words, and
    of `previous`. Whoever has the whole file can verify it without the route."""

    sequence: int
    uid: str
    at: str
    action: str
    actor_kind: str
    actor_name: str
    address: str
    database: str
    run: str
    build: str
    facts: dict[str, Any]
    previous: str
    digest: str
