"""May what is asked for begin now, and does it wait if not?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import assert_never

from migration_route import clock
from migration_route.deciding.windows import HORIZON, Later, Never, Now, Opening
from migration_route.errors import InvalidRequest, Refused
from migration_route.ledger.opening import Waiting
from migration_route.running.launchers import can_wait
from migration_route.running.openings import opening_for, waiting_for

_LATE = timedelta(minutes=1)  # that a time may lie behind: it was written down before


class WindowClosed(Refused):
    """This may not begin now, and it was not to wait."""

    code = "window_closed"
    hint = "Ask again when it may begin, or let the run wait for it."


def opens(database: str) -> Opening:
    """Return when a run on this database might begin that is asked for now."""
    return opening_for(database)


def until_opening(database: str, *, at: datetime | None, waits: bool) -> Waiting | None:
    """Return for what a run waits that is asked for now; None: for nothing.

    Raises `InvalidRequest` for a time that is no good, `WindowClosed` where it can never
    begin, or may not begin now and is not to wait.
    """
    if at is not None:
        _check(at)
    found = opening_for(database, at=at)
    match found:
        case Now():
            return None
        case Never(why=why):
            raise WindowClosed(f"This can never begin. {why}", hint=_LOOK_AT)
        case Later(at=until, reason=reason, why=why) if not (waits and can_wait()):
            raise WindowClosed(
                f"This may not begin now. {why}",
                hint="" if not waits else "The launcher 'inline' cannot wait.",
                until=clock.written(until),
                reason=reason,
            )
        case Later():
            return waiting_for(found)
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
