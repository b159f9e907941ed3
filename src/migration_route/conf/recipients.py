"""Who is to be told, and of what?"""

from __future__ import annotations

from migration_route.conf import route_settings
from migration_route.conf.types import Recipient
from migration_route.core.events import EventType


def recipients() -> tuple[Recipient, ...]:
    """Return who is to be told."""
    found = route_settings()
    return (*found.webhooks, *found.mail)


def wanted_by(
    recipient: Recipient, edges: tuple[EventType, ...], database: str
) -> EventType | None:
    """Return which of the edges a recipient wants to hear, the one that says most."""
    if recipient.databases is not None and database not in recipient.databases:
        return None
    return next((edge for edge in edges if edge in recipient.events), None)
