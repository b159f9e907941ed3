"""Tests of the start time that a form accepts, and of how the pages show an opening."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.http import QueryDict
from django.utils import timezone

from migration_route.core.enums import WaitingReason
from migration_route.core.errors import InvalidRequest
from migration_route.policy.schedule import NeverOpens, OpenNow, OpensLater
from migration_route.web.forms import read_start_time
from migration_route.web.plans import opening_view


def _form(typed):
    form = QueryDict(mutable=True)
    form["at"] = typed
    return form


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("", None),
        ("  ", None),
        ("2026-12-01T02:00", "2026-12-01T01:00+00:00"),
        ("2026-07-01T02:00", "2026-07-01T00:00+00:00"),
        ("2026-10-25T02:30", "2026-10-25T00:30+00:00"),  # twice: the first occurrence
        ("2026-12-01T02:00:00Z", "2026-12-01T02:00+00:00"),
    ],
)
def test_a_time_is_meant_by_the_clock_of_the_site(typed, meant):
    """A browser's field has no time zone."""
    with timezone.override("Europe/Berlin"):
        found = read_start_time(_form(typed))
    assert found == (meant and datetime.fromisoformat(meant))


@pytest.mark.parametrize(
    ("typed", "word"),
    [("2027-03-28T02:30", "set forward"), ("tonight", "not a valid start time")],
)
def test_a_time_that_does_not_come_is_told(typed, word):
    """The intended time is not guessed."""
    with timezone.override("Europe/Berlin"), pytest.raises(InvalidRequest, match=word):
        read_start_time(_form(typed))


def test_a_page_says_when_a_run_would_begin():
    """Nothing if that is now."""
    at = datetime(2026, 12, 1, 1, tzinfo=UTC)
    later = OpensLater(at=at, reason=WaitingReason.WINDOW, why="It opens then.")
    with timezone.override("Europe/Berlin"):
        shown = opening_view(later)
        assert (shown.at, shown.why, shown.is_never) == (at, "It opens then.", False)
        assert shown.zone in {"CET", "CEST", "Europe/Berlin"}
        assert shown.least < shown.most
    assert opening_view(NeverOpens(why="Shut.")).is_never
    now = opening_view(OpenNow())
    assert (now.at, now.why, now.is_never) == (None, "", False)
