"""Start the process of a run that is permitted.

May what is asked for begin now, and does it wait if not?
"""

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
from migration_route.execution.launchers import launcher, supports_waiting
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
    """Raise `Misconfigured` where the process of a run could not do its work, or would
    pass a guard that cannot be read, and `TenantsNotSupported`."""
    if problems := route_settings().problems:
        # A guard that cannot be read must not be passed as if it were not there.
        raise Misconfigured(" ".join(problems))
    target = find_target(database)
    refuse_tenants(target.alias)
    for alias in {target.alias, route_settings().ledger_database}:
        if vendor_of(alias).is_private(connections[alias]):
            raise Misconfigured(
                f"The database {alias!r} lives in the memory of this process: the process "
                "of a run cannot see it.",
                hint="Use a file.",
            )


def launch(permit: Allowed, run: RunRecord) -> None:
    """Start the process of a run; it has failed where that is impossible.

    Raises `LaunchFailed`, whatever the launcher raised: a run that nothing will carry
    must not own its database.
    """
    try:
        launcher().launch(permit, run)
    except Exception as error:  # a launcher of the project raises what it likes
        failure = _as_launch_failed(error, run)
        change = runs.Change(
            outcome=failure.code,
            error=StepError(type="LaunchFailed", message=str(failure)),
        )
        unbegun = {RunState.QUEUED, RunState.WAITING}
        try:
            runs.move(run.id, to=RunState.FAILED, expected=unbegun, change=change)
        except InvalidState:
            if find_run(run.id).outcome != failure.code:
                logger.warning("Run %s has started all the same.", run.id)
                return
        raise failure from error


def _as_launch_failed(error: Exception, run: RunRecord) -> LaunchFailed:
    if isinstance(error, LaunchFailed):
        return error
    if isinstance(error, RouteError):
        return LaunchFailed(error.message, hint=error.hint, **error.facts)
    logger.error("The launcher could not start run %s", run.id, exc_info=error)
    return LaunchFailed(
        f"{type(error).__name__}: {redact(str(error))} The launcher could not start the "
        "run.",
        hint="The server's log holds the whole error.",
    )


_LATE = timedelta(minutes=1)  # that a time may lie behind: it was written down before


class WindowClosed(Refused):
    """This may not begin now, and it was not to wait."""

    code = "window_closed"
    hint = "Ask again when it may begin, or let the run wait for it."


def next_opening(database: str) -> Schedule:
    """Return when a run on this database might begin that is asked for now."""
    return schedule_for(database)


def require_schedule(database: str, *, at: datetime | None, waits: bool) -> WaitInfo | None:
    """Return for what a run waits that is asked for now; None: for nothing.

    Raises `InvalidRequest` for a time that is no good, `WindowClosed` where it can never
    begin, or may not begin now and is not to wait.
    """
    if at is not None:
        _check(at)
    found = schedule_for(database, at=at)
    match found:
        case OpenNow():
            return None
        case NeverOpens(why=why):
            raise WindowClosed(f"This can never begin. {why}", hint=_LOOK_AT)
        case OpensLater(at=until, reason=reason, why=why) if not (
            waits and supports_waiting()
        ):
            raise WindowClosed(
                f"This may not begin now. {why}",
                hint="" if not waits else "The launcher 'inline' cannot wait.",
                until=clock.format_time(until),
                reason=reason,
            )
        case OpensLater():
            return scheduled_wait(found)
        case _:
            assert_never(found)


_LOOK_AT = "Look at WINDOWS and FREEZES in MIGRATION_ROUTE; 'manage.py check' reads them."


def check_time(at: datetime | None) -> None:
    """Raise `InvalidRequest` for a time that the calendar does not have in UTC, or that is
    more than a year ahead. One that has passed may belong to a request that is repeated."""
    if at is None:
        return
    if at.tzinfo is None:
        raise InvalidRequest("The time at which to begin needs its time zone.")
    try:
        in_utc = at.astimezone(UTC)
    except OverflowError as error:
        raise InvalidRequest(
            f"{at.isoformat()} is out of range: in UTC it lies outside of the years 1 to "
            "9999."
        ) from error
    if in_utc > clock.current() + HORIZON:
        raise InvalidRequest(f"{at.isoformat()} is more than a year ahead.")


def _check(at: datetime) -> None:
    check_time(at)
    if at < clock.current() - _LATE:
        raise InvalidRequest(
            f"{at.isoformat()} has passed.", hint="Leave it out to begin at once."
        )
