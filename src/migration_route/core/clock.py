"""The clock of the ledger's database, and the text form of times and durations.

Below the interfaces, times are text: they are the same in every database and under either
value of USE_TZ, and a digest covers exactly what is stored.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

_DURATION = re.compile(r"(?P<count>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


# How far the clock of the ledger's database is ahead of this host's, as last measured.
_offset = timedelta(0)
_LATENCY = timedelta(seconds=1)  # a smaller difference can be network latency


def synchronize(now: str) -> None:
    """Set the clock of this process from a time just read from the ledger's database."""
    global _offset
    measured = parse_time(now) - datetime.now(UTC)
    if abs(measured - _offset) > _LATENCY:
        _offset = measured if abs(measured) > _LATENCY else timedelta(0)


def database_now() -> datetime:
    """Return the time of the ledger's database, aware, in UTC; the host's time until the
    database has been read."""
    return datetime.now(UTC) + _offset


def host_now() -> str:
    """Return the host's time in the format of `now`."""
    return format_time(datetime.now(UTC))


def now() -> str:
    """Return the time in UTC as ISO 8601 with microseconds, which sorts as text."""
    return format_time(database_now())


def format_time(moment: datetime) -> str:
    """Return an aware time in UTC as ISO 8601 with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """Parse the output of `format_time`."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def age(text: str) -> timedelta:
    """Return the time elapsed since a formatted time."""
    return database_now() - parse_time(text)


def duration(text: str) -> timedelta:
    """Parse a duration such as "500ms", "15s", "10m", "24h" or "7d".

    Raises `ValueError` for anything else.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as '500ms', '15s' or '24h'")
    try:
        return timedelta(seconds=float(match["count"]) * _SECONDS[match["unit"]])
    except OverflowError as error:
        raise ValueError(f"{text!r} is longer than any duration") from error


def since_epoch(seconds: float) -> timedelta:
    """Return the age of a file system timestamp."""
    return datetime.now(UTC) - datetime.fromtimestamp(seconds, UTC)


def wait_until(condition: Callable[[], bool], *, within: float, pause: float) -> bool:
    """Check a condition every `pause` seconds; return whether it was met within `within`
    seconds. It is checked once more after that time."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
