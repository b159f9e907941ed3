"""Which rows does the route keep?

Times and JSON are text, and no row points outside this app: the tables can be made on
an empty database, and a digest covers exactly what is stored.
"""

from __future__ import annotations

from migration_route.models.approval import Approval
from migration_route.models.delivery import Delivery, Outbox
from migration_route.models.entry import Entry
from migration_route.models.event import Event
from migration_route.models.rehearsal import Rehearsal
from migration_route.models.run import Run

__all__ = ["Approval", "Delivery", "Entry", "Event", "Outbox", "Rehearsal", "Run"]
