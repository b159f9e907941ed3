"""Databases as the start page shows them: those that need attention first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from django.db import connections

from migration_route.core.enums import RunState
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import DatabaseStatus

MOST_CARDS = 8
"""More databases than this are a table."""

_FAILURES = frozenset({RunState.FAILED, RunState.STALE})


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseView:
    """The status of a database, where it is, and its newest run."""

    status: DatabaseStatus
    address: str  # "shop at db.example.com:5432"
    last: RunRecord | None

    @property
    def attention(self) -> str:
        """Return what the user has to look at, in a word; "" for nothing."""
        status = self.status
        if not status.reachable:
            return "unreachable"
        if status.unresolved_run:
            return "to resolve"
        if status.problem:
            return "problem"
        if status.active_run:
            return "active"
        if status.pending and self.has_failed:
            return "failed"
        return "pending" if status.pending else ""

    @property
    def has_failed(self) -> bool:
        return self.last is not None and self.last.state in _FAILURES

    @property
    def can_start(self) -> bool:
        """Whether something is pending and no run occupies the database."""
        status = self.status
        return bool(status.pending) and not status.active_run and not status.unresolved_run


_ORDER = ("unreachable", "to resolve", "problem", "active", "failed", "pending", "")


def database_views(
    found: Iterable[DatabaseStatus], last: Mapping[str, RunRecord]
) -> list[DatabaseView]:
    """Return the databases, those that need attention first."""
    views = [
        DatabaseView(
            status=status,
            address=address_of(status.database),
            last=last.get(status.database),
        )
        for status in found
    ]
    return sorted(views, key=lambda view: _ORDER.index(view.attention))


def address_of(alias: str) -> str:
    """Return the name and the host of a database, without credentials."""
    settings = connections.settings[alias]
    name, host, port = (str(settings.get(key) or "") for key in ("NAME", "HOST", "PORT"))
    if "sqlite" in settings["ENGINE"]:
        return PurePath(name).name
    if not host or host.startswith("/"):
        return f"{name} on this host" if name else ""
    return f"{name} at {host}{f':{port}' if port else ''}"
