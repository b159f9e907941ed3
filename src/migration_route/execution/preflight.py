"""How is a database looked at, before anything begins in it?

How does a process wait until its run may begin?

It holds no lock and no connection, and beats the heart of the run. When the opening has
come, it does not begin itself: it was started with the code of that time, and only a
new process has the code that is on disk now.

When may a run begin, by the settings as this process knows them?
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf import route_settings
from migration_route.conf.databases import private_connection
from migration_route.core import clock
from migration_route.core.errors import DatabaseUnavailable
from migration_route.core.values import (
    Freeze,
    HealthSignal,
    Impact,
    SignalName,
    unknown,
    windows_of,
)
from migration_route.execution.posix_signals import ShutdownSignals
from migration_route.ledger import claims
from migration_route.ledger.records import RunRecord
from migration_route.ledger.runs import WaitInfo
from migration_route.policy.health_gate import freeze_signal
from migration_route.policy.schedule import OpenNow, OpensLater, Schedule, opening
from migration_route.vendors import vendor_of

logger = logging.getLogger("migration_route.execution")


def wait_until_due(run: RunRecord, signals: ShutdownSignals) -> bool:
    """Wait until the run may begin; False when it is not this process's any more, or
    was handed back because the process is told to end."""
    beat = route_settings().lease / 3
    kept: RunRecord | None = run
    while not signals.name:
        try:
            kept = claims.heartbeat(run.id, run.carrier)
        except (DatabaseFailure, DatabaseUnavailable):
            logger.warning("The heart of run %s could not be beaten.", run.id)
        if kept is None:
            return False  # cancelled, or taken away while the ledger was out of reach
        left = clock.parse_time(kept.waiting_until) - clock.current()
        if kept.in_spite or left <= timedelta(0):
            return True
        signals.pause(min(left, beat).total_seconds())
    claims.release_claim(run.id, run.carrier)
    return False


_PATIENCE = 1.0  # seconds for a busy SQLite file to be opened


class HealthProbe:
    """Looks at one database, over a connection of its own that it keeps."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._connection: BaseDatabaseWrapper | None = None

    def look(self, touched: Impact) -> tuple[HealthSignal, ...]:
        """Return the signals for somebody who wants to change what is `touched`.

        Raises nothing: what cannot be read is unknown. Without HEALTH, freezes alone.
        """
        settings = route_settings()
        freeze = freeze_signal(settings.freezes, datetime.now(UTC))
        if settings.health is None:
            return (freeze,)
        vendor = vendor_of(self._database)
        try:
            connection = self._open()
            return (freeze, *vendor.health(connection, touched, settings.health))
        except (DatabaseFailure, OSError) as error:
            self.close()
            found = vendor.health_without_connection(error)
            return (freeze, found or unknown(SignalName.CONNECTIONS, "No connection."))

    def _open(self) -> BaseDatabaseWrapper:
        """Return the connection; one that has died meanwhile is made anew."""
        if self._connection is None:
            self._connection = private_connection(self._database, patience=_PATIENCE)
        if self._connection.connection is not None and not self._connection.is_usable():
            self._connection.close()
        self._connection.ensure_connection()
        return self._connection

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def schedule_for(database: str, *, at: datetime | None = None) -> Schedule:
    """Return when a run on this database may begin that is asked for now."""
    windows = windows_of(route_settings().windows, database)
    return opening(windows, _heeded_freezes(), at, clock.current())


def schedule_of_run(run: RunRecord) -> Schedule:
    """Return when a run that is on record may begin."""
    if run.in_spite:
        return OpenNow()
    at = clock.parse_time(run.begin_at) if run.begin_at else None
    return schedule_for(run.database, at=at)


def step_window_for(run: RunRecord) -> Schedule:
    """Return when a further step of a run may begin; freezes are a signal by then."""
    if run.in_spite:
        return OpenNow()
    windows = windows_of(route_settings().windows, run.database)
    return opening(windows, (), None, clock.current())


def scheduled_wait(later: OpensLater) -> WaitInfo:
    """Return how it is put on record that a run does not begin yet."""
    return WaitInfo(
        reason=later.reason, until=clock.format_time(later.at), facts={"why": later.why}
    )


def _heeded_freezes() -> tuple[Freeze, ...]:
    health = route_settings().health
    is_ignored = health is not None and SignalName.FREEZE in health.ignore
    return () if is_ignored else route_settings().freezes
