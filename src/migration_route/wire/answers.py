"""How is what is pending answered with, and what goes wrong?"""

from __future__ import annotations

from typing import Any

import msgspec

from migration_route.wire.body import Answer
from migration_route.wire.openings import ActiveWaitingAnswer
from migration_route.wire.plans import DeferredAnswer


class Problem(Answer, frozen=True, kw_only=True):
    """An error, as RFC 9457 shapes it, with a code that never changes."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str = ""
    run: str | None = None
    facts: dict[str, Any] = {}


class DatabaseAnswer(Answer, frozen=True, kw_only=True):
    """What is known of one database right now."""

    database: str
    reachable: bool
    vendor: str
    pending: int | None
    pending_migrations: list[str]
    required: int | None
    required_migrations: list[str]
    deferred: list[DeferredAnswer]
    applied: int | None
    ahead: list[str]
    active_run: str | None
    needs_resolution: str | None
    ledger_installed: bool
    problem: Problem | None
    active_waiting: ActiveWaitingAnswer | None = None


class StatusAnswer(Answer, frozen=True, kw_only=True):
    """Every database of the project."""

    build: str
    ledger_database: str
    databases: list[DatabaseAnswer]


class ReadyAnswer(Answer, frozen=True, kw_only=True):
    """May traffic come?"""

    ready: bool


def to_json(answer: Answer) -> bytes:
    """Write an answer as JSON."""
    return msgspec.json.encode(answer)
