"""How does it look on the wire how the databases stand?"""

from __future__ import annotations

from migration_route.wire.answers import Problem
from migration_route.wire.body import Answer
from migration_route.wire.openings import ActiveWaitingAnswer
from migration_route.wire.plans import DeferredAnswer


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
    active_state: str | None = None
    active_waiting: ActiveWaitingAnswer | None = None


class StatusAnswer(Answer, frozen=True, kw_only=True):
    """Every database of the project."""

    build: str
    ledger_database: str
    databases: list[DatabaseAnswer]


class ReadyAnswer(Answer, frozen=True, kw_only=True):
    """May traffic come?"""

    ready: bool
