"""How does a process wait until its run may begin?

It holds no lock and no connection, and beats the heart of the run. When the opening has
come, it does not begin itself: it was started with the code of that time, and only a
new process has the code that is on disk now.
"""

from __future__ import annotations

import logging
from datetime import timedelta

from django.db import Error as DatabaseFailure

from migration_route import clock
from migration_route.conf import route_settings
from migration_route.errors import DatabaseUnavailable
from migration_route.ledger import carriers
from migration_route.ledger.records import RunRecord
from migration_route.running.signals import Signals

logger = logging.getLogger("migration_route.running")


def attend(run: RunRecord, signals: Signals) -> bool:
    """Wait until the run may begin; False when it is not this process's any more, or
    was handed back because the process is told to end."""
    beat = route_settings().lease / 3
    kept: RunRecord | None = run
    while not signals.name:
        try:
            kept = carriers.keep(run.id, run.carrier)
        except (DatabaseFailure, DatabaseUnavailable):
            logger.warning("The heart of run %s could not be beaten.", run.id)
        if kept is None:
            return False  # cancelled, or taken away while the ledger was out of reach
        left = clock.parsed(kept.waiting_until) - clock.current()
        if kept.in_spite or left <= timedelta(0):
            return True
        signals.pause(min(left, beat).total_seconds())
    carriers.hand_back(run.id, run.carrier)
    return False
