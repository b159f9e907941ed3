"""Tests of how times and durations are displayed."""

from __future__ import annotations

import pytest

from migration_route.core.enums import RunState
from migration_route.web.filters import (
    elapsed_ms,
    format_duration,
    format_offset,
    parse_optional_time,
    readable,
    short_statement,
    vendor_name,
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
    """The milliseconds of an hour are not shown."""
    assert format_duration(milliseconds) == text


def test_an_offset_is_never_negative() -> None:
    """The clocks of two hosts may differ."""
    assert format_offset(NINE, "2026-11-23T09:00:01.240000Z") == "+1.24 s"
    assert format_offset(NINE, "2026-11-23T08:59:59.000000Z") == "+0.00 s"


def test_what_has_not_ended_has_no_duration() -> None:
    """Nor has one that has not started."""
    assert elapsed_ms(NINE, "2026-11-23T09:00:02.500000Z") == 2500
    assert elapsed_ms(NINE, "") is None
    assert elapsed_ms("", NINE) is None
    assert parse_optional_time("") is None


def test_states_and_vendors_are_words() -> None:
    """As readable names."""
    assert readable(RunState.AWAITING_APPROVAL) == "awaiting approval"
    assert vendor_name("postgresql") == "PostgreSQL"
    assert vendor_name("new_one") == "new one"


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SELECT 1", "SELECT 1"),
        ("IN (%s, %s)", "IN (%s, %s)"),
        ("IN (%s, %s, %s, %s, %s)", "IN (%s, …)"),
        ("VALUES (%s, %s), (%s, %s), (%s, %s)", "VALUES (%s, %s), 3 times"),
        (
            "SET a = (CASE " + 'WHEN ("t"."id" = %s) THEN %s ' * 500 + "ELSE NULL END)",
            'SET a = (CASE WHEN ("t"."id" = %s) THEN %s … 500 times ELSE NULL END)',
        ),
        ("x" * 1000, f"{'x' * 150} … (700 characters) … {'x' * 150}"),
    ],
)
def test_a_statement_is_shown_without_its_repetitions(sql: str, shown: str) -> None:
    """Bulk statements repeat one piece for each row."""
    assert short_statement(sql) == shown
