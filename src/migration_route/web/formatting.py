"""Text for times, durations, states and vendors on the pages."""

from __future__ import annotations

from datetime import datetime

from migration_route.core import clock
from migration_route.core.enums import RunState, StepState

_SECOND = 1000
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE

TONES: dict[RunState | StepState, str] = {
    RunState.SUCCEEDED: "good",
    RunState.NOOP: "good",
    RunState.RESOLVED: "good",
    RunState.FAILED: "bad",
    RunState.PARTIAL: "bad",
    RunState.LOST: "bad",
    RunState.STALE: "warning",
    RunState.REJECTED: "bad",
    RunState.EXPIRED: "warning",
    RunState.AWAITING_APPROVAL: "warning",
    RunState.CANCELLED: "warning",
    RunState.CANCELLING: "warning",
    RunState.WAITING: "warning",
    RunState.PAUSED: "warning",
    RunState.RUNNING: "busy",
    StepState.APPLYING: "busy",
    StepState.APPLIED: "good",
    StepState.REVERTED: "good",
    StepState.FAILED: "bad",
    StepState.PARTIAL: "bad",
}
"""The color of a state. Pages always show the state's name as well."""


_VENDORS = {"postgresql": "PostgreSQL", "mysql": "MySQL or MariaDB", "sqlite": "SQLite"}


def vendor_name(vendor: str) -> str:
    return _VENDORS.get(vendor, readable(vendor))


def readable(state: str) -> str:
    """Return a state, an action or a kind with spaces instead of underscores."""
    return state.replace("_", " ")


def parse_optional_time(text: str) -> datetime | None:
    """Parse a stored time; None if it is empty."""
    return clock.parse_time(text) if text else None


def format_duration(milliseconds: int | None) -> str:
    """Format a duration. `static/migration_route/route.js` uses the same format."""
    if milliseconds is None:
        return ""
    if milliseconds < _SECOND:
        return f"{milliseconds} ms"
    if milliseconds < 10 * _SECOND:
        return f"{milliseconds / _SECOND:.1f} s"
    seconds = round(milliseconds / _SECOND)
    if milliseconds < _MINUTE:
        return f"{seconds} s"
    if milliseconds < _HOUR:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def elapsed_ms(start: str, end: str) -> int | None:
    """Return the milliseconds between two stored times; None if one is empty."""
    if not (start and end):
        return None
    return round(
        (clock.parse_time(end) - clock.parse_time(start)).total_seconds() * _SECOND
    )


def format_offset(since: str, at: str) -> str:
    """Format the time from `since` to `at` as "+1.24 s"; never negative."""
    seconds = (clock.parse_time(at) - clock.parse_time(since)).total_seconds()
    return f"+{max(seconds, 0):.2f} s"
