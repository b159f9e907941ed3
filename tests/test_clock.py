"""Tests of times and durations as sortable text."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration_route.core import clock

MOMENTS = st.datetimes(
    min_value=datetime(1970, 1, 2),  # noqa: DTZ001 - the strategy adds the zone
    max_value=datetime(9990, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
    timezones=st.sampled_from(
        [UTC, timezone(timedelta(hours=-11)), timezone(timedelta(hours=14))]
    ),
)


@given(MOMENTS)
def test_a_written_time_reads_as_the_same_moment(moment):
    """Nothing is lost, whatever the time zone."""
    assert clock.parse_time(clock.format_time(moment)) == moment


@given(MOMENTS, MOMENTS)
def test_written_times_sort_as_the_moments_do(left, right):
    """The order of the texts is the order of the times."""
    assert (clock.format_time(left) < clock.format_time(right)) is (left < right)


def test_now_is_utc_with_microseconds():
    """The stored current time has the one canonical format."""
    before, text, after = datetime.now(UTC), clock.now(), datetime.now(UTC)
    assert before <= clock.parse_time(text) <= after
    assert len(text) == len("2026-11-23T17:00:00.000000Z")


def test_age_is_the_time_since():
    """The age of a time an hour ago is an hour."""
    found = clock.age(clock.format_time(datetime.now(UTC) - timedelta(hours=1)))
    assert timedelta(hours=1) <= found < timedelta(hours=1, seconds=5)


def test_since_epoch_is_the_time_since():
    """A file modified two minutes ago is two minutes old."""
    found = clock.since_epoch(datetime.now(UTC).timestamp() - 120)
    assert timedelta(seconds=120) <= found < timedelta(seconds=125)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("15s", 15),
        (" 15 s ", 15),
        ("1.5s", 1.5),
        ("10m", 600),
        ("24h", 86400),
        ("7d", 604800),
        ("0s", 0),
    ],
)
def test_a_duration_is_a_number_with_its_unit(text, seconds):
    """Every documented unit is accepted."""
    assert clock.duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "15", "s", "15 sec", "-1s", "1e3s", "1s 2s", "15S", ".5s", "5.s", "1,5s"]
)
def test_what_is_not_a_duration_is_refused(text):
    """A number without a unit is ambiguous."""
    with pytest.raises(ValueError, match="is not a duration"):
        clock.duration(text)


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h"]))
def test_every_whole_number_of_a_unit_is_read_exactly(count, unit):
    """The length is the number times its unit."""
    one = {"ms": timedelta(milliseconds=1), "s": timedelta(seconds=1)}
    one |= {"m": timedelta(minutes=1), "h": timedelta(hours=1)}
    assert abs(clock.duration(f"{count}{unit}") - count * one[unit]) < timedelta(
        milliseconds=1
    )


@given(st.text(max_size=20) | st.from_regex(r"\d{1,400}(ms|s|m|h|d)", fullmatch=True))
def test_any_text_is_a_duration_or_a_value_error(text):
    """Code that reads settings handles one type of error."""
    with suppress(ValueError):
        assert clock.duration(text) >= timedelta(0)
