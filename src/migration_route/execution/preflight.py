"""The checks before a run or a step starts: whether a run can work on its database, its
schedule, its windows and the health of the database.

A process that waits for a scheduled start holds no lock and no connection, and sends the
heartbeat of the run. When the start is due it does not execute the run itself: it was
started with the code of that time, and only a new process has the code that is on disk now.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import assert_never

from django.db import Error as DatabaseFailure
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf import route_settings
from migration_route.conf.databases import (
    find_target,
    private_connection,
    refuse_tenants,
)
from migration_route.core import clock
from migration_route.core.errors import (
    DatabaseUnavailable,
    InvalidRequest,
    Misconfigured,
    Refused,
)
from migration_route.core.values import (
    Freeze,
    HealthSignal,
    Impact,
    SignalName,
    unknown_signal,
    windows_of,
)
from migration_route.execution.launchers import supports_waiting
from migration_route.execution.posix_signals import ShutdownSignals
from migration_route.ledger import claims
from migration_route.ledger.records import RunRecord
from migration_route.ledger.runs import WaitInfo
from migration_route.policy.schedule import (
    HORIZON,
    NeverOpens,
    OpenNow,
    OpensLater,
    Schedule,
    find_opening,
    freeze_signal,
)
from migration_route.vendors import vendor_of

logger = logging.getLogger("migration_route.execution")


def require_runnable(database: str) -> None:
    """Raise `Misconfigured` or `TenantsNotSupported` if no run can work on the database.

    Unreadable settings are an error: a guard must not be skipped because it is invalid.
    """
    if problems := route_settings().problems:
        raise Misconfigured(" ".join(problems))
    target = find_target(database)
    refuse_tenants(target.alias)
    for alias in {target.alias, route_settings().ledger_database}:
        if vendor_of(alias).is_private(connections[alias]):
            raise Misconfigured(
                f"The database {alias!r} is in the memory of this process: the process of "
                "a run cannot access it.",
                hint="Use a database file.",
            )


def wait_until_due(run: RunRecord, signals: ShutdownSignals) -> bool:
    """Wait until the run may start; False if this process has lost the claim or released it
    because it received a shutdown signal."""
    beat = route_settings().heartbeat_timeout / 3
    current: RunRecord | None = run
    while not signals.name:
        try:
            current = claims.heartbeat(run.id, run.claimed_by)
        except (DatabaseFailure, DatabaseUnavailable):
            logger.warning("Could not record the heartbeat of run %s.", run.id)
        if current is None:
            return False  # cancelled, or the claim was revoked in an outage
        left = clock.parse_time(current.waiting_until) - clock.database_now()
        if current.override_schedule or left <= timedelta(0):
            return True
        signals.pause(min(left, beat).total_seconds())
    claims.release_claim(run.id, run.claimed_by)
    return False


_PATIENCE = 1.0  # seconds to open a busy SQLite file


class HealthProbe:
    """Reads the health signals of one database over a connection of its own, which it
    keeps."""

    def __init__(self, database: str) -> None:
        self._database = database
        self._connection: BaseDatabaseWrapper | None = None

    def look(self, touched: Impact) -> tuple[HealthSignal, ...]:
        """Return the signals for a change to what is `touched`.

        Raises nothing: what cannot be read is unknown. Without HEALTH, it returns freezes
        alone.
        """
        settings = route_settings()
        freeze = freeze_signal(settings.freezes, clock.database_now())
        if settings.health is None:
            return (freeze,)
        vendor = vendor_of(self._database)
        try:
            connection = self._open()
            return (freeze, *vendor.health(connection, touched, settings.health))
        except (DatabaseFailure, OSError) as error:
            self.close()
            found = vendor.health_without_connection(error)
            return (
                freeze,
                found or unknown_signal(SignalName.CONNECTIONS, "No connection."),
            )

    def _open(self) -> BaseDatabaseWrapper:
        """Return the connection, opened again if it has died."""
        if self._connection is None:
            self._connection = private_connection(self._database, patience=_PATIENCE)
        if self._connection.connection is not None and not self._connection.is_usable():
            self._connection.close()
        self._connection.ensure_connection()
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def schedule_for(database: str, *, at: datetime | None = None) -> Schedule:
    """Return when a run on this database that is requested now may start."""
    windows = windows_of(route_settings().windows, database)
    return find_opening(windows, _effective_freezes(), at, clock.database_now())


def schedule_of_run(run: RunRecord) -> Schedule:
    """Return when a recorded run may start."""
    if run.override_schedule:
        return OpenNow()
    at = clock.parse_time(run.not_before) if run.not_before else None
    return schedule_for(run.database, at=at)


def step_window_for(run: RunRecord) -> Schedule:
    """Return when a further step of a run may start. Freezes do not apply here: once a run
    has started they are a health signal."""
    if run.override_schedule:
        return OpenNow()
    windows = windows_of(route_settings().windows, run.database)
    return find_opening(windows, (), None, clock.database_now())


def scheduled_wait(later: OpensLater) -> WaitInfo:
    """Return the wait to record for a run that does not start yet."""
    return WaitInfo(
        reason=later.reason, until=clock.format_time(later.at), facts={"why": later.why}
    )


def _effective_freezes() -> tuple[Freeze, ...]:
    health = route_settings().health
    is_ignored = health is not None and SignalName.FREEZE in health.ignore
    return () if is_ignored else route_settings().freezes


_LATE = timedelta(minutes=1)  # how far in the past a requested start may be


class WindowClosed(Refused):
    """The run may not start now, and it is not allowed to wait."""

    code = "window_closed"
    hint = "Retry when the run may start, or let the run wait."


def require_schedule(database: str, *, at: datetime | None, waits: bool) -> WaitInfo | None:
    """Return what a run waits for if it is requested now; None: nothing.

    Raises `InvalidRequest` for an invalid time, `WindowClosed` when the run can never
    start, or may not start now and must not wait.
    """
    if at is not None:
        _check(at)
    return required_wait(schedule_for(database, at=at), waits=waits)


def required_wait(schedule: Schedule, *, waits: bool) -> WaitInfo | None:
    """Return what a run with this schedule waits for; None: nothing.

    Raises `WindowClosed` when it can never start, or may not start now and must not wait.
    """
    match schedule:
        case OpenNow():
            return None
        case NeverOpens(why=why):
            raise WindowClosed(f"The run can never start. {why}", hint=_CHECK_SETTINGS)
        case OpensLater(at=until, reason=reason, why=why) if not (
            waits and supports_waiting()
        ):
            raise WindowClosed(
                f"The run may not start now. {why}",
                hint=""
                if not waits
                else "Retry when the run may start: the launcher 'inline' cannot wait.",
                until=clock.format_time(until),
                reason=reason,
            )
        case OpensLater():
            return scheduled_wait(schedule)
        case _:
            assert_never(schedule)


_CHECK_SETTINGS = (
    "Check WINDOWS and FREEZES in MIGRATION_ROUTE; 'manage.py check' validates them."
)


def check_time(at: datetime | None) -> None:
    """Raise `InvalidRequest` for an invalid requested start.

    A start must have a time zone, exist in UTC and be at most one year ahead. A start in
    the past is accepted here, because it may belong to a repeated request.
    """
    if at is None:
        return
    if at.tzinfo is None:
        raise InvalidRequest("The start time needs a time zone.")
    try:
        in_utc = at.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequest(
            f"{at.isoformat()} is out of range: in UTC, it is outside of the years 1 to "
            "9999."
        ) from error
    if in_utc > clock.database_now() + HORIZON:
        raise InvalidRequest(f"{at.isoformat()} is more than a year ahead.")


def _check(at: datetime) -> None:
    check_time(at)
    if at < clock.database_now() - _LATE:
        raise InvalidRequest(
            f"{at.isoformat()} is in the past.", hint="Omit the time to start immediately."
        )
