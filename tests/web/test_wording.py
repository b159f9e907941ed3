"""Do times and durations read well?"""

from __future__ import annotations

import pytest

from migration_route.core.enums import RunState
from migration_route.web.formatting import (
    between,
    duration,
    moment,
    offset,
    vendor_name,
    words,
)

NINE = "2026-11-23T09:00:00.000000Z"


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, ""),
        (0, "0 ms"),
        (999, "999 ms"),
        (1000, "1.0 s"),
        (9949, "9.9 s"),
        (10_000, "10 s"),
        (59_400, "59 s"),
        (60_000, "1 min 0 s"),
        (3_599_000, "59 min 59 s"),
        (3_600_000, "1 h 0 min"),
        (90_060_000, "25 h 1 min"),
    ],
)
def test_a_duration_is_as_exact_as_it_is_short(milliseconds: int | None, text: str) -> None:
    """Nobody reads the milliseconds of an hour."""
    assert duration(milliseconds) == text


def test_an_offset_is_never_negative() -> None:
    """The clocks of two hosts may differ."""
    assert offset(NINE, "2026-11-23T09:00:01.240000Z") == "+1.24 s"
    assert offset(NINE, "2026-11-23T08:59:59.000000Z") == "+0.00 s"


def test_what_has_not_ended_has_no_duration() -> None:
    """Nor has what has not begun."""
    assert between(NINE, "2026-11-23T09:00:02.500000Z") == 2500
    assert between(NINE, "") is None
    assert between("", NINE) is None
    assert moment("") is None


def test_states_and_vendors_are_words() -> None:
    """As a person would write them."""
    assert words(RunState.AWAITING_APPROVAL) == "awaiting approval"
    assert vendor_name("postgresql") == "PostgreSQL"
    assert vendor_name("new_one") == "new one"
