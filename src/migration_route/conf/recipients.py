"""Recipients of notifications."""

from __future__ import annotations

from migration_route.conf import route_settings
from migration_route.conf.types import Recipient
from migration_route.core.events import EventType


def recipients() -> tuple[Recipient, ...]:
    found = route_settings()
    return (*found.webhooks, *found.email)


def event_type_for(
    recipient: Recipient, edges: tuple[EventType, ...], database: str
) -> EventType | None:
    """Return the first of the event types, ordered by importance, that a recipient
    wants."""
    if recipient.databases is not None and database not in recipient.databases:
        return None
    return next((edge for edge in edges if edge in recipient.events), None)
