"""What time is it, and how is a time or a duration written?

Times are text everywhere below the doors, so that they are the same in every database
and under either value of USE_TZ, and so that a digest covers exactly what is stored.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_DURATION = re.compile(r"(?P<count>\d+(?:\.\d+)?)\s*(?P<unit>ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


# How far the clock of the ledger's database is ahead of this host's, as last measured.
_offset = timedelta(0)
_LATENCY = timedelta(seconds=1)  # a smaller difference may be the way of the answer


def follow(now: str) -> None:
    """Set the clock of this process by the clock of the ledger's database, just read."""
    global _offset
    measured = parse_time(now) - datetime.now(UTC)
    if abs(measured - _offset) > _LATENCY:
        _offset = measured if abs(measured) > _LATENCY else timedelta(0)


def current() -> datetime:
    """Return the time of the ledger's database, aware, in UTC; of this host until the
    database was asked."""
    return datetime.now(UTC) + _offset


def host_now() -> str:
    """Return the time of this host, as `now` writes it."""
    return format_time(datetime.now(UTC))


def now() -> str:
    """Return the time in UTC, as ISO 8601 with microseconds: it sorts as text."""
    return format_time(current())


def format_time(moment: datetime) -> str:
    """Write an aware time as the route writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str) -> datetime:
    """Read a time that `written` wrote."""
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def age(text: str) -> timedelta:
    """Return how long ago a written time was."""
    return current() - parse_time(text)


def duration(text: str) -> timedelta:
    """Read a duration such as "500ms", "15s", "10m", "24h" or "7d".

    Raises `ValueError` when it is not one.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a duration such as '500ms', '15s' or '24h'")
    try:
        return timedelta(seconds=float(match["count"]) * _SECONDS[match["unit"]])
    except OverflowError as error:
        raise ValueError(f"{text!r} is longer than any duration") from error


def since_epoch(seconds: float) -> timedelta:
    """Return how long ago a time stamp of the file system was."""
    return datetime.now(UTC) - datetime.fromtimestamp(seconds, UTC)
