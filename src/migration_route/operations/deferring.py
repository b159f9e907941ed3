"""Since when have which steps been put off, as far as the ledger knows?"""

from __future__ import annotations

import logging

from migration_route.errors import DatabaseUnavailable
from migration_route.ledger.reading import first_deferrals
from migration_route.planning.phases.dividing import NEVER, Deferrals, FirstDeferral

logger = logging.getLogger("migration_route.operations")


def deferrals_of(database: str) -> Deferrals:
    """Return when each step was first put off, and by which build. Where the ledger
    cannot be read, nothing is dated: no delay counts as over."""
    try:
        found = first_deferrals(database)
    except DatabaseUnavailable:
        logger.warning("The ledger cannot be read: what is deferred stays undated.")
        return NEVER
    return {
        label: FirstDeferral(at=at, build=build) for label, (at, build) in found.items()
    }
