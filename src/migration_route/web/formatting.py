"""How are times, durations and states read by a person?"""

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
    RunState.RECONCILED: "good",
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
    RunState.HELD: "warning",
    RunState.RUNNING: "busy",
    StepState.APPLYING: "busy",
    StepState.APPLIED: "good",
    StepState.REVERTED: "good",
    StepState.FAILED: "bad",
    StepState.PARTIAL: "bad",
}
"""How a state is coloured; the word itself is always there as well."""


_VENDORS = {"postgresql": "PostgreSQL", "mysql": "MySQL or MariaDB", "sqlite": "SQLite"}


def vendor_name(vendor: str) -> str:
    """Return what the vendor calls itself."""
    return _VENDORS.get(vendor, words(vendor))


def words(state: str) -> str:
    """Write a state, an action or a kind as words."""
    return state.replace("_", " ")


def moment(text: str) -> datetime | None:
    """Read a time of the route; None where there is none."""
    return clock.parse_time(text) if text else None


def duration(milliseconds: int | None) -> str:
    """Write a duration; `static/migration_route/route.js` writes it in the same way."""
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


def between(start: str, end: str) -> int | None:
    """Return the milliseconds between two times of the route."""
    if not (start and end):
        return None
    return round(
        (clock.parse_time(end) - clock.parse_time(start)).total_seconds() * _SECOND
    )


def offset(since: str, at: str) -> str:
    """Write how long after `since` something was, as "+1.24 s"."""
    seconds = (clock.parse_time(at) - clock.parse_time(since)).total_seconds()
    return f"+{max(seconds, 0):.2f} s"
