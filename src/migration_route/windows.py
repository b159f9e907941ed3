"""When may a run begin? Frozen values; no Django here.

They are read by `conf/windows.py`, and weighed by `deciding/windows.py`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import time
from enum import StrEnum, unique
from zoneinfo import ZoneInfo


@unique
class Day(StrEnum):
    """The days of a week, in the order of `datetime.weekday`."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time of the week in which steps may begin, by the clock on one wall."""

    days: frozenset[Day]  # on which it begins; none: it never does
    begins: time
    ends: time  # not behind `begins`: on the day after
    timezone: ZoneInfo
    databases: frozenset[str] | None = None  # None: every database


def windows_of(windows: Iterable[Window], database: str) -> tuple[Window, ...]:
    """Return the windows that bind one database; none: it is open at any time."""
    return tuple(
        window
        for window in windows
        if window.databases is None or database in window.databases
    )
