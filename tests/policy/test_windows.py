"""Tests of when a run may start, by cases and by a second implementation."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from migration_route.core.enums import WaitingReason
from migration_route.core.values import Day, Freeze, Window, windows_of
from migration_route.policy.schedule import (
    HORIZON,
    NeverOpens,
    OpenNow,
    OpensLater,
    exists_in_timezone,
    find_opening,
    instant,
)

BERLIN = ZoneInfo("Europe/Berlin")
WEEKDAYS = frozenset({Day.MON, Day.TUE, Day.WED, Day.THU, Day.FRI})


def a_wall(text):
    """Parse a local time without a time zone."""
    return datetime.fromisoformat(text)


def window(begins, ends, *, days=frozenset(Day), zone=BERLIN, databases=None):
    """Return a window between two local times."""
    return Window(
        days=frozenset(days),
        begins=time.fromisoformat(begins),
        ends=time.fromisoformat(ends),
        timezone=zone,
        databases=databases,
    )


def at(text, zone=BERLIN):
    """Parse a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def freeze(begins, ends):
    """Return a freeze between two times in Berlin."""
    return Freeze(begins=at(begins), ends=at(ends), reason="The sale.")


NIGHT = window("22:00", "04:00", days=WEEKDAYS)


@pytest.mark.parametrize(
    ("windows", "freezes", "wanted", "now", "expected"),
    [
        ((), (), None, "2026-11-25T12:00", "now"),
        ((), (), "2026-11-25T11:00", "2026-11-25T12:00", "now"),
        ((), (), "2026-11-25T13:00", "2026-11-25T12:00", ("2026-11-25T13:00", "time")),
        ((NIGHT,), (), None, "2026-11-25T21:59", ("2026-11-25T22:00", "window")),
        ((NIGHT,), (), None, "2026-11-25T22:00", "now"),
        ((NIGHT,), (), None, "2026-11-26T03:59", "now"),
        ((NIGHT,), (), None, "2026-11-26T04:00", ("2026-11-26T22:00", "window")),
        # Friday's window lasts into Saturday, and the next one is Monday's.
        ((NIGHT,), (), None, "2026-11-28T03:00", "now"),
        ((NIGHT,), (), None, "2026-11-28T12:00", ("2026-11-30T22:00", "window")),
        ((NIGHT,), (), None, "2026-11-29T23:00", ("2026-11-30T22:00", "window")),
        # The requested time lies within a window, or before the next one.
        (
            (NIGHT,),
            (),
            "2026-11-26T01:00",
            "2026-11-25T12:00",
            ("2026-11-26T01:00", "time"),
        ),
        (
            (NIGHT,),
            (),
            "2026-11-26T12:00",
            "2026-11-25T23:00",
            ("2026-11-26T22:00", "window"),
        ),
        # A freeze, alone and over a window.
        (
            (),
            (freeze("2026-11-25T00:00", "2026-11-27T00:00"),),
            None,
            "2026-11-25T12:00",
            ("2026-11-27T00:00", "freeze"),
        ),
        (
            (NIGHT,),
            (freeze("2026-11-25T00:00", "2026-11-26T01:30"),),
            None,
            "2026-11-25T23:00",
            ("2026-11-26T01:30", "freeze"),
        ),
        (
            (NIGHT,),
            (freeze("2026-11-25T00:00", "2026-11-26T06:00"),),
            None,
            "2026-11-25T23:00",
            ("2026-11-26T22:00", "window"),
        ),
        # Of several windows, the first that opens.
        (
            (NIGHT, window("12:00", "13:00", days={Day.THU}, zone=ZoneInfo("UTC"))),
            (),
            None,
            "2026-11-26T05:00",
            ("2026-11-26T13:00", "window"),
        ),
        # From midnight to midnight is a whole day.
        ((window("00:00", "00:00", days={Day.WED}),), (), None, "2026-11-25T23:59", "now"),
    ],
)
def test_a_run_begins_at_the_first_moment_that_all_of_them_leave(
    windows, freezes, wanted, now, expected
):
    """Not before its time, within a window, and outside of every freeze."""
    found = find_opening(windows, freezes, at(wanted) if wanted else None, at(now))
    if expected == "now":
        assert found == OpenNow()
        return
    assert isinstance(found, OpensLater)
    assert found.at == at(expected[0])
    assert found.at.utcoffset() == timedelta(0)
    assert found.reason == expected[1]
    assert found.why.endswith(".")


@pytest.mark.parametrize(
    ("begins", "ends", "now", "opens", "shuts"),
    [
        # The last Sunday in March: 02:00 to 03:00 does not exist; 03:00 is 01:00 UTC.
        ("01:00", "02:30", "2027-03-28T00:00+00:00", None, "2027-03-28T01:00+00:00"),
        ("02:30", "05:00", "2027-03-27T23:00+00:00", "2027-03-28T01:00+00:00", None),
        ("02:10", "02:50", "2027-03-28T00:00+00:00", "2027-03-29T00:10+00:00", None),
        # The last Sunday in October: 02:00 to 03:00 occurs twice; the first one counts.
        ("02:30", "04:00", "2026-10-25T00:00+00:00", "2026-10-25T00:30+00:00", None),
        ("01:00", "02:30", "2026-10-25T00:00+00:00", None, "2026-10-25T00:30+00:00"),
        ("02:00", "03:00", "2026-10-25T01:30+00:00", None, "2026-10-25T02:00+00:00"),
    ],
)
def test_a_clock_that_is_put_forward_or_back(begins, ends, now, opens, shuts):
    """A skipped time is the time of the change; a repeated one its first occurrence."""
    windows = (window(begins, ends),)
    moment = datetime.fromisoformat(now)
    found = find_opening(windows, (), None, moment)
    if opens:
        assert isinstance(found, OpensLater)
        assert found.at == datetime.fromisoformat(opens)
        return
    assert found == OpenNow()
    end = datetime.fromisoformat(shuts)
    assert find_opening(windows, (), None, end - timedelta(seconds=1)) == OpenNow()
    assert isinstance(find_opening(windows, (), None, end), OpensLater)


def test_what_can_never_begin_says_why():
    """An invalid window never opens, nor does one after a long freeze."""
    shut = window("00:00", "00:00", days=())
    now = at("2026-11-25T12:00")
    assert isinstance(find_opening((shut,), (), None, now), NeverOpens)
    for ends in (datetime.max.replace(tzinfo=UTC), now + timedelta(days=400)):
        long = Freeze(begins=now, ends=ends, reason="It cannot be read")
        found = find_opening((), (long,), None, now)
        assert isinstance(found, NeverOpens)
        assert "It cannot be read." in found.why


def test_a_window_binds_the_databases_that_it_names():
    """One that names none applies to all of them."""
    named, for_all = window("22:00", "04:00", databases=frozenset({"a"})), NIGHT
    assert windows_of((named, for_all), "a") == (named, for_all)
    assert windows_of((named, for_all), "b") == (for_all,)
    assert windows_of((named,), "b") == ()


ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata"]
).map(ZoneInfo)
WALLS = st.times(timezones=st.none()).map(lambda wall: wall.replace(microsecond=0))
WINDOWS = st.builds(
    Window,
    days=st.frozensets(st.sampled_from(Day), min_size=1),
    begins=WALLS,
    ends=WALLS,
    timezone=ZONES,
)
MOMENTS = st.datetimes(
    a_wall("2026-01-01"), a_wall("2028-01-01"), timezones=st.just(UTC)
).map(lambda moment: moment.replace(microsecond=0))


def is_within(one: Window, moment: datetime) -> bool:
    """Return whether a time lies in a window, by checking the days around it."""
    days = [moment.astimezone(one.timezone).date() + timedelta(n) for n in (-2, -1, 0, 1)]
    spans = [
        (
            instant(datetime.combine(day, one.begins), one.timezone),
            instant(
                datetime.combine(day + timedelta(one.ends <= one.begins), one.ends),
                one.timezone,
            ),
        )
        for day in days
        if list(Day)[day.weekday()] in one.days
    ]
    return any(begins <= moment < ends for begins, ends in spans)


@given(
    windows=st.lists(WINDOWS, min_size=1, max_size=3),
    now=MOMENTS,
    wait=st.none() | st.timedeltas(timedelta(0), timedelta(days=30)),
    frozen=st.none() | st.timedeltas(timedelta(hours=1), timedelta(days=20)),
    probe=st.floats(0, 1),
)
@settings(max_examples=150, deadline=None)
def test_the_opening_is_within_a_window_and_nothing_before_it_is(
    windows, now, wait, frozen, probe
):
    """At the returned time everything is open; before it, something is closed."""
    freezes = [] if frozen is None else [Freeze(begins=now, ends=now + frozen, reason="x")]
    wanted = None if wait is None else now + wait

    def is_open(moment: datetime) -> bool:
        return (
            (wanted is None or moment >= wanted)
            and not any(one.begins <= moment < one.ends for one in freezes)
            and any(is_within(one, moment) for one in windows)
        )

    found = find_opening(windows, freezes, wanted, now)
    assert not isinstance(found, NeverOpens)
    if isinstance(found, OpenNow):
        assert is_open(now)
        return
    assert now < found.at <= now + HORIZON
    assert is_open(found.at)
    assert not is_open(found.at - timedelta(microseconds=1))
    assert not is_open(now + (found.at - now) * min(probe, 0.999))
    assert find_opening(windows, freezes, wanted, found.at) == OpenNow()
    assert found.reason in WaitingReason


@given(wall=st.datetimes(a_wall("2026-01-01"), a_wall("2028-01-01")), zone=ZONES)
@example(wall=a_wall("2027-03-28T02:30"), zone=BERLIN)
@example(wall=a_wall("2026-10-04T02:15"), zone=ZoneInfo("Australia/Lord_Howe"))
@example(wall=a_wall("2026-10-25T02:30"), zone=BERLIN)
@example(wall=a_wall("2027-03-28T02:30:00.5"), zone=BERLIN)
@settings(max_examples=300, deadline=None)
def test_a_time_on_the_wall_is_the_first_moment_at_which_the_clock_has_come_to_it(
    wall, zone
):
    """Just before it, the clock shows less; at it, exactly that or, after a gap, more."""
    found = instant(wall, zone)
    shown = found.astimezone(zone).replace(tzinfo=None)
    before = (found - timedelta(microseconds=1)).astimezone(zone).replace(tzinfo=None)
    assert before < wall <= shown
    assert exists_in_timezone(wall, zone) == (shown == wall)
    if shown != wall:
        offset = found.astimezone(zone).utcoffset()
        earlier = (found - timedelta(seconds=1)).astimezone(zone).utcoffset()
        assert offset is not None
        assert earlier is not None
        gap = offset - earlier
        assert timedelta(0) < shown - wall <= gap
