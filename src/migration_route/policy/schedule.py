"""When may a run begin? A pure function; no Django here.

A time on a wall that comes twice in a night is meant the first time. One that does not
come at all is the moment at which the clock is put forward.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from migration_route.core.enums import WaitingReason
from migration_route.core.values import Day, Freeze, Window

HORIZON = timedelta(days=366)
"""How far ahead an opening is looked for, and may be asked for."""

_DAYS = tuple(Day)
_FAR = 9999  # the year in which a freeze ends that cannot be read
_UTC = ZoneInfo("UTC")
_LONGEST_GAP = 15  # days: a weekly window, of which a put-forward clock may take one


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenNow:
    """It may begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpensLater:
    """It may begin at a time, and why not before."""

    at: datetime  # in UTC
    reason: WaitingReason  # what binds: the time that was asked for, a window, a freeze
    why: str  # one sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverOpens:
    """There is no moment within `HORIZON` at which it may begin, and why not."""

    why: str  # one sentence


Schedule = OpenNow | OpensLater | NeverOpens


def opening(
    windows: Sequence[Window],
    freezes: Iterable[Freeze],
    at: datetime | None,
    now: datetime,
) -> Schedule:
    """Return when a run may begin: not before `at`, within one of the windows if there
    are any, and outside of every freeze. Times are aware."""
    bound: OpensLater | None = None
    moment = now.astimezone(UTC)
    if at is not None and at > moment:
        moment = at.astimezone(UTC)
        bound = OpensLater(
            at=moment,
            reason=WaitingReason.TIME,
            why=f"It was asked for at {_told(at)}.",
        )
    told = tuple(freezes)
    while moment <= now + HORIZON:
        if freeze := _freeze_at(told, moment):
            if freeze.ends.year >= _FAR:
                return NeverOpens(why=f"Nothing begins: {freeze.reason.rstrip('.')}.")
            moment = freeze.ends.astimezone(UTC)
            bound = OpensLater(
                at=moment,
                reason=WaitingReason.FREEZE,
                why=f"Nothing begins before {_told(freeze.ends)}: "
                f"{freeze.reason.rstrip('.')}.",
            )
            continue
        found = _next_moment(windows, moment)
        if found is None:
            return NeverOpens(why="No window opens for this database.")
        if found.at == moment:
            return bound or OpenNow()
        moment = found.at
        bound = OpensLater(
            at=moment,
            reason=WaitingReason.WINDOW,
            why=f"The next window opens at {_told(moment.astimezone(found.timezone))}.",
        )
    last = bound.why if bound else ""
    return NeverOpens(why=f"Nothing may begin within a year. {last}".strip())


def _freeze_at(freezes: tuple[Freeze, ...], moment: datetime) -> Freeze | None:
    current = [freeze for freeze in freezes if freeze.begins <= moment < freeze.ends]
    return max(current, key=lambda freeze: freeze.ends, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    at: datetime  # in UTC
    timezone: ZoneInfo  # in which it is told


def _next_moment(windows: Sequence[Window], moment: datetime) -> _Found | None:
    """Return the first moment, from this one on, that lies within one of the windows;
    without any windows, this one."""
    if not windows:
        return _Found(at=moment, timezone=_UTC)
    found = [
        _Found(at=at, timezone=window.timezone)
        for window in windows
        if (at := _next_in(window, moment)) is not None
    ]
    return min(found, key=lambda one: one.at, default=None)


def _next_in(window: Window, moment: datetime) -> datetime | None:
    """Return the first moment, from this one on, that lies within a window."""
    today = moment.astimezone(window.timezone).date()
    for ahead in range(-2, _LONGEST_GAP):  # one that began yesterday may last
        span = span_on(window, today + timedelta(days=ahead))
        if span is not None and span[1] > max(span[0], moment):
            return max(span[0], moment)
    return None


def span_on(window: Window, day: date) -> tuple[datetime, datetime] | None:
    """Return from when, and until before when, a window lasts that begins on this day,
    in UTC; None when it does not begin on such a day."""
    if _DAYS[day.weekday()] not in window.days:
        return None
    last = day if window.ends > window.begins else day + timedelta(days=1)
    return (
        instant(datetime.combine(day, window.begins), window.timezone),
        instant(datetime.combine(last, window.ends), window.timezone),
    )


def instant(wall: datetime, timezone: tzinfo) -> datetime:
    """Return when a clock on the wall shows a time, in UTC: the first time that it does,
    or when it is put forward past it."""
    first = wall.replace(tzinfo=timezone, fold=0).astimezone(UTC)
    if first.astimezone(timezone).replace(tzinfo=None) == wall:
        return first
    # The two readings of a time that is left out lie on either side of the change.
    before = wall.replace(tzinfo=timezone, fold=1).astimezone(UTC).replace(microsecond=0)
    after = first.replace(microsecond=0) + timedelta(seconds=1)
    offset = after.astimezone(timezone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if middle.astimezone(timezone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after


def is_shown(wall: datetime, timezone: tzinfo) -> bool:
    """Tell whether a clock on the wall ever shows this time."""
    return instant(wall, timezone).astimezone(timezone).replace(tzinfo=None) == wall


def _told(moment: datetime) -> str:
    """Write a time for a person, with its zone."""
    return moment.isoformat(sep=" ", timespec="seconds" if moment.second else "minutes")
