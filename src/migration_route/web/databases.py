"""What does the first page say about a database?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from migration_route.planning.standing import DatabaseStatus
from migration_route.vocabulary import WaitingReason
from migration_route.web.wording import moment, vendor_name, words

_WAITS_FOR: dict[str, str] = {
    WaitingReason.TIME: "it was asked for at a later time",
    WaitingReason.WINDOW: "no window is open",
    WaitingReason.FREEZE: "nothing begins in a freeze",
    WaitingReason.CARRIER: "no worker has taken it yet",
    WaitingReason.HEALTH: "the moment is not good",
    WaitingReason.HELD: "somebody holds it",
    WaitingReason.BLOCKED: "others are using what it has to change",
    WaitingReason.LOCK: "something else is migrating this database",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseView:
    """A database as the first page shows it."""

    status: DatabaseStatus
    vendor: str
    waits_for: str  # what the run waits for that owns it, in words; "" for nothing
    until: datetime | None


def database_view(status: DatabaseStatus) -> DatabaseView:
    """Return a database as the first page shows it."""
    return DatabaseView(
        status=status,
        vendor=vendor_name(status.vendor),
        waits_for=_WAITS_FOR.get(status.active_waits_for, words(status.active_waits_for)),
        until=moment(status.active_until),
    )
