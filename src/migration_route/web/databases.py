"""What does the first page say about a database?"""

from __future__ import annotations

from dataclasses import dataclass

from migration_route.planning.standing import DatabaseStatus
from migration_route.web.wording import vendor_name


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseView:
    """A database as the first page shows it."""

    status: DatabaseStatus
    vendor: str


def database_view(status: DatabaseStatus) -> DatabaseView:
    """Return a database as the first page shows it."""
    return DatabaseView(status=status, vendor=vendor_name(status.vendor))
