"""Tests of reading WINDOWS, and of windows that are invalid."""

from __future__ import annotations

from datetime import time

import pytest

from migration_route.conf import read_settings
from migration_route.core.values import Day

GOOD = {"start": "22:00", "end": "04:00", "timezone": "Europe/Berlin"}


def read(*entries):
    """Return the windows and the problems that were found in them."""
    found = read_settings({"WINDOWS": list(entries)})
    return found.windows, found.problems


def test_a_window_is_read():
    """By default a window applies to all days and all databases."""
    (found,), problems = read(GOOD)
    assert problems == ()
    assert (found.begins, found.ends) == (time(22), time(4))
    assert found.days == frozenset(Day)
    assert found.databases is None
    more = {"days": ["mon"], "databases": ["other"], "end": "24:00"}
    (found,), problems = read({**GOOD, **more})
    assert problems == ()
    assert (found.days, found.databases) == ({Day.MON}, {"other"})
    assert found.ends == time(0)


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("night", "dict"),
        ({**GOOD, "til": "04:00"}, "'til'"),
        ({**GOOD, "days": []}, "'days'"),
        ({**GOOD, "days": ["monday"]}, "'days'"),
        ({**GOOD, "days": "mon"}, "'days'"),
        ({**GOOD, "start": None}, "'start'"),
        ({**GOOD, "start": "24:00"}, "'start'"),
        ({**GOOD, "end": "25:00"}, "'end'"),
        ({**GOOD, "start": "22:00+01:00"}, "'timezone'"),
        ({**GOOD, "start": 22}, "'start'"),
        ({"start": "22:00", "end": "04:00"}, "'timezone'"),
        ({**GOOD, "timezone": "Berlin"}, "'timezone'"),
        ({**GOOD, "timezone": "../zone"}, "'timezone'"),
        ({**GOOD, "databases": ["nowhere"]}, "'databases'"),
        ({**GOOD, "databases": "default"}, "'databases'"),
    ],
)
def test_a_window_that_cannot_be_read_is_shut(entry, word):
    """The valid windows still apply, and an invalid one never opens."""
    (good, bad), (problem,) = read(GOOD, entry)
    assert problem.startswith("WINDOWS[1]: ")
    assert word in problem
    assert good.days
    assert bad.days == frozenset()
    assert bad.databases is None


def test_windows_that_are_no_list_are_shut():
    """A typing error does not allow runs at all times."""
    found = read_settings({"WINDOWS": "nights"})
    assert [window.days for window in found.windows] == [frozenset()]
    assert len(found.problems) == 1
    assert read_settings({"WINDOWS": None}).windows == ()
