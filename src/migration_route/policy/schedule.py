"""Decides when a run may start, and whether its next step may. Pure functions without
Django.

Windows are in local time. A local time that occurs twice means its first occurrence; one
that is skipped means the time at which the clock is put forward.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from migration_route.core.enums import WaitingReason
from migration_route.core.values import (
    Day,
    Freeze,
    HealthSettings,
    HealthSignal,
    SignalName,
    SignalState,
    Window,
    normal_signal,
    stop_signal,
)

HORIZON = timedelta(days=366)
"""How far ahead a start is searched for, and may be requested."""

_DAYS = tuple(Day)
_FAR = 9999  # the year in which an unreadable freeze ends
_UTC = ZoneInfo("UTC")
_LONGEST_GAP = 15  # days: a weekly window, one occurrence of which the clock may skip


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenNow:
    """The run may start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpensLater:
    """The run may start at a later time, with the reason for the wait."""

    at: datetime  # in UTC
    reason: WaitingReason  # the requested time, a window or a freeze
    why: str  # one sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class NeverOpens:
    """The run may not start at any time within `HORIZON`, with the reason."""

    why: str  # one sentence


Schedule = OpenNow | OpensLater | NeverOpens


def find_opening(
    windows: Sequence[Window],
    freezes: Iterable[Freeze],
    at: datetime | None,
    now: datetime,
) -> Schedule:
    """Return when a run may start: not before `at`, within one of the windows if there are
    any, and outside every freeze. Times are aware."""
    bound: OpensLater | None = None
    moment = now.astimezone(UTC)
    if at is not None and at > moment:
        moment = at.astimezone(UTC)
        bound = OpensLater(
            at=moment,
            reason=WaitingReason.TIME,
            why=f"It is scheduled for {_shown(at)}.",
        )
    all_freezes = tuple(freezes)
    while moment <= now + HORIZON:
        if freeze := _freeze_at(all_freezes, moment):
            if freeze.ends.year >= _FAR:
                return NeverOpens(why=f"No run may start: {freeze.reason.rstrip('.')}.")
            moment = freeze.ends.astimezone(UTC)
            bound = OpensLater(
                at=moment,
                reason=WaitingReason.FREEZE,
                why=f"A freeze is in effect until {_shown(freeze.ends)}: "
                f"{freeze.reason.rstrip('.')}.",
            )
            continue
        found = _next_open(windows, moment)
        if found is None:
            return NeverOpens(why="No window opens for this database.")
        if found.at == moment:
            return bound or OpenNow()
        moment = found.at
        bound = OpensLater(
            at=moment,
            reason=WaitingReason.WINDOW,
            why=f"The next window opens at {_shown(moment.astimezone(found.timezone))}.",
        )
    last = bound.why if bound else ""
    return NeverOpens(why=f"No run may start within a year. {last}".strip())


def _freeze_at(freezes: Iterable[Freeze], moment: datetime) -> Freeze | None:
    current = [freeze for freeze in freezes if freeze.begins <= moment < freeze.ends]
    return max(current, key=lambda freeze: freeze.ends, default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    at: datetime  # in UTC
    timezone: ZoneInfo  # for display


def _next_open(windows: Sequence[Window], moment: datetime) -> _Opening | None:
    """Return the first time, from this one on, within one of the windows; without any
    windows, this one."""
    if not windows:
        return _Opening(at=moment, timezone=_UTC)
    found = [
        _Opening(at=at, timezone=window.timezone)
        for window in windows
        if (at := _next_in(window, moment)) is not None
    ]
    return min(found, key=lambda one: one.at, default=None)


def _next_in(window: Window, moment: datetime) -> datetime | None:
    """Return the first time, from this one on, within a window."""
    today = moment.astimezone(window.timezone).date()
    for ahead in range(-2, _LONGEST_GAP):  # one that started yesterday may still be open
        span = span_on(window, today + timedelta(days=ahead))
        if span is not None and span[1] > max(span[0], moment):
            return max(span[0], moment)
    return None


def span_on(window: Window, day: date) -> tuple[datetime, datetime] | None:
    """Return the start and the exclusive end, in UTC, of a window that starts on this day;
    None when it does not start on such a day."""
    if _DAYS[day.weekday()] not in window.days:
        return None
    last = day if window.ends > window.begins else day + timedelta(days=1)
    return (
        instant(datetime.combine(day, window.begins), window.timezone),
        instant(datetime.combine(last, window.ends), window.timezone),
    )


def instant(wall: datetime, timezone: tzinfo) -> datetime:
    """Return the UTC time at which a local clock first shows a time, or at which it is put
    forward past it."""
    first = wall.replace(tzinfo=timezone, fold=0).astimezone(UTC)
    if first.astimezone(timezone).replace(tzinfo=None) == wall:
        return first
    # The two readings of a skipped time lie on either side of the change.
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


def exists_in_timezone(wall: datetime, timezone: tzinfo) -> bool:
    """Return whether a local clock ever shows this time."""
    return instant(wall, timezone).astimezone(timezone).replace(tzinfo=None) == wall


def _shown(moment: datetime) -> str:
    """Format a time with its zone, for display."""
    return moment.isoformat(sep=" ", timespec="seconds" if moment.second else "minutes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Proceed:
    """A step may start, as far as is known."""

    signals: tuple[HealthSignal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A step may not start, with the reasons."""

    signals: tuple[HealthSignal, ...]
    because: tuple[HealthSignal, ...]  # the signals that stop; at least one

    @property
    def reason(self) -> str:
        """Return the reasons in one line."""
        return " ".join(signal.reason for signal in self.because)


HealthDecision = Proceed | Pause


def evaluate_health(
    signals: Iterable[HealthSignal],
    settings: HealthSettings,
    *,
    overridden: Collection[SignalName] = (),
) -> HealthDecision:
    """Return `Pause` if a signal stops that is neither ignored nor overridden; an unknown
    signal does not stop.

    `overridden` are the signals despite which a user let the run continue.
    """
    every = tuple(signals)
    because = tuple(
        signal
        for signal in every
        if signal.state is SignalState.STOP
        and signal.name not in settings.ignore
        and signal.name not in overridden
    )
    return Pause(signals=every, because=because) if because else Proceed(signals=every)


def freeze_signal(freezes: Iterable[Freeze], now: datetime) -> HealthSignal:
    """Return a signal that stops during a freeze. `now` is aware."""
    last = _freeze_at(freezes, now)
    if last is None:
        return normal_signal(SignalName.FREEZE, "No freeze is in effect.")
    ends = last.ends.isoformat(timespec="minutes")
    return stop_signal(
        SignalName.FREEZE,
        f"A freeze is in effect until {ends}: {last.reason.rstrip('.')}.",
        until=ends,
        why=last.reason,
    )
