"""Tests of when a requested run may start, and of how it waits until then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from migration_route.core import clock
from migration_route.core.errors import InvalidRequest
from migration_route.execution.preflight import WindowClosed, require_schedule

NEVER = {"days": ["mon"], "start": "25:00", "end": "04:00", "timezone": "UTC"}


@pytest.fixture
def route(settings):
    """Return a function that changes MIGRATION_ROUTE."""

    def change(**changes):
        settings.MIGRATION_ROUTE = {
            **settings.MIGRATION_ROUTE,
            "LAUNCHER": "process",
            **changes,
        }

    change()
    return change


def in_hours(hours):
    """Return a time that many hours from now."""
    return datetime.now(UTC) + timedelta(hours=hours)


def reason_to_wait(database):
    """Return why a run on this database has to wait."""
    found = require_schedule(database, at=None, waits=True)
    assert found is not None
    return found.reason


def shut_now(**more):
    """Return a window of an hour that opens in two."""
    opens = in_hours(2)
    shuts = opens + timedelta(hours=1)
    return {"start": f"{opens:%H:%M}", "end": f"{shuts:%H:%M}", "timezone": "UTC", **more}


def test_without_windows_it_begins_now(route):
    """Also where the requested time has just passed."""
    assert require_schedule("default", at=None, waits=False) is None
    just_now = datetime.now(UTC) - timedelta(seconds=30)
    assert require_schedule("default", at=just_now, waits=False) is None


def test_it_waits_for_its_time_and_for_its_window(route):
    """With the reason and the time."""
    at = in_hours(5)
    found = require_schedule("default", at=at, waits=True)
    assert found is not None
    assert (found.reason, found.until) == ("time", clock.format_time(at))
    route(WINDOWS=[shut_now()])
    assert reason_to_wait("default") == "window"
    route(WINDOWS=[shut_now(databases=["other"])])
    assert require_schedule("default", at=None, waits=True) is None
    assert reason_to_wait("other") == "window"


@pytest.mark.parametrize(
    ("at", "word"),
    [
        (in_hours(-1), "is in the past"),
        (in_hours(24 * 400), "a year"),
        (datetime.fromisoformat("2026-12-01T02:00"), "time zone"),
    ],
)
def test_a_time_that_is_no_good_is_told(route, at, word):
    """A mistyped year must not start a run at once."""
    with pytest.raises(InvalidRequest, match=word):
        require_schedule("default", at=at, waits=True)


def test_who_does_not_wait_is_refused(route):
    """With the earliest possible start; the launcher `inline` never waits."""
    route(WINDOWS=[shut_now()])
    with pytest.raises(WindowClosed) as caught:
        require_schedule("default", at=None, waits=False)
    assert caught.value.facts["reason"] == "window"
    assert clock.parse_time(caught.value.facts["until"]) > datetime.now(UTC)
    route(WINDOWS=[shut_now()], LAUNCHER="inline")
    with pytest.raises(WindowClosed, match="cannot wait"):
        require_schedule("default", at=None, waits=True)


def test_what_can_never_begin_is_refused(route):
    """An invalid window never opens."""
    route(WINDOWS=[NEVER])
    with pytest.raises(WindowClosed, match="never"):
        require_schedule("default", at=None, waits=True)


def test_a_freeze_that_is_ignored_is_no_reason_to_wait(route):
    """As between two steps."""
    freeze = {
        "start": in_hours(-1).isoformat(),
        "end": in_hours(1).isoformat(),
        "reason": "The sale.",
    }
    route(FREEZES=[freeze])
    assert reason_to_wait("default") == "freeze"
    route(FREEZES=[freeze], HEALTH={"ignore": ["freeze"]})
    assert require_schedule("default", at=None, waits=True) is None
