"""Starts the process of a permitted run, and checks when a requested run may start."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import assert_never

from django.db import connections

from migration_route.conf import route_settings
from migration_route.conf.databases import find_target, refuse_tenants
from migration_route.core import clock
from migration_route.core.enums import RunState
from migration_route.core.errors import (
    InvalidRequest,
    InvalidState,
    LaunchFailed,
    Misconfigured,
    Refused,
    RouteError,
)
from migration_route.core.redaction import redact
from migration_route.execution.launchers import get_launcher, supports_waiting
from migration_route.execution.preflight import schedule_for, scheduled_wait
from migration_route.ledger import runs
from migration_route.ledger.evidence import StepError
from migration_route.ledger.queries import find_run
from migration_route.ledger.records import RunRecord
from migration_route.ledger.runs import WaitInfo
from migration_route.policy.decision import Allowed
from migration_route.policy.schedule import (
    HORIZON,
    NeverOpens,
    OpenNow,
    OpensLater,
    Schedule,
)
from migration_route.vendors import vendor_of

logger = logging.getLogger("migration_route.services")


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


def launch(permit: Allowed, run: RunRecord) -> None:
    """Start the process of a run; if that is impossible, the run fails.

    Raises `LaunchFailed`, whatever the launcher raised: a run that no process will execute
    must not own its database.
    """
    try:
        get_launcher().launch(permit, run)
    except Exception as error:  # a launcher of the project may raise anything
        failure = _as_launch_failed(error, run)
        change = runs.Change(
            outcome=failure.code,
            error=StepError(type="LaunchFailed", message=str(failure)),
        )
        not_started = {RunState.QUEUED, RunState.WAITING}
        try:
            runs.move(run.id, to=RunState.FAILED, expected=not_started, change=change)
        except InvalidState:
            if find_run(run.id).outcome != failure.code:
                logger.warning("Run %s has started despite the launcher's error.", run.id)
                return
        raise failure from error


def _as_launch_failed(error: Exception, run: RunRecord) -> LaunchFailed:
    if isinstance(error, LaunchFailed):
        return error
    if isinstance(error, RouteError):
        return LaunchFailed(error.message, hint=error.hint, **error.facts)
    logger.error("The launcher failed to start run %s", run.id, exc_info=error)
    return LaunchFailed(
        "The launcher failed to start the run. "
        f"{type(error).__name__}: {redact(str(error))}",
        hint="See the server log for the full error.",
    )


_LATE = timedelta(minutes=1)  # how far in the past a requested start may be


class WindowClosed(Refused):
    """The run may not start now, and it is not allowed to wait."""

    code = "window_closed"
    hint = "Retry when the run may start, or let the run wait."


def next_opening(database: str) -> Schedule:
    """Return when a run on this database may start if it is requested now."""
    return schedule_for(database)


def require_schedule(database: str, *, at: datetime | None, waits: bool) -> WaitInfo | None:
    """Return what a run waits for if it is requested now; None: nothing.

    Raises `InvalidRequest` for an invalid time, `WindowClosed` when the run can never
    start, or may not start now and must not wait.
    """
    if at is not None:
        _check(at)
    found = schedule_for(database, at=at)
    match found:
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
            return scheduled_wait(found)
        case _:
            assert_never(found)


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
