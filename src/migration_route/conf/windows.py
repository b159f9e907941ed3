"""How are WINDOWS read?"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import time
from typing import Any
from zoneinfo import ZoneInfo

from migration_route.windows import Day, Window

_KEYS = frozenset({"days", "from", "to", "timezone", "databases"})
_END_OF_DAY = "24:00"


def read_windows(
    value: Any, aliases: Collection[str]
) -> tuple[tuple[Window, ...], list[str]]:
    """Read WINDOWS: a list of dicts; return them with what is wrong in them.

    A guard that cannot be read is shut: what is wrong counts as a window that never
    opens, for every database, until it is put right.
    """
    if value is None:
        return (), []
    if not isinstance(value, list | tuple):
        return (_SHUT,), ["WINDOWS must be a list of dicts."]
    found, problems = [], []
    for position, entry in enumerate(value):
        try:
            found.append(_window(entry, aliases))
        except ValueError as error:
            problems.append(f"WINDOWS[{position}]: {error}")
            found.append(_SHUT)
    return tuple(found), problems


_SHUT = Window(days=frozenset(), begins=time(0), ends=time(0), timezone=ZoneInfo("UTC"))


def _window(entry: Any, aliases: Collection[str]) -> Window:
    if not isinstance(entry, Mapping):
        raise ValueError("must be a dict.")  # noqa: TRY004 - a value, not a call, is wrong
    if unknown := sorted(map(str, set(entry) - _KEYS)):
        raise ValueError(f"unknown keys {unknown}; there are {', '.join(sorted(_KEYS))}.")
    return Window(
        days=_days(entry.get("days", list(Day))),
        begins=_time(entry, "from"),
        ends=_time(entry, "to"),
        timezone=_timezone(entry.get("timezone")),
        databases=_databases(entry.get("databases"), aliases),
    )


def _days(given: Any) -> frozenset[Day]:
    is_list = isinstance(given, list | tuple | set | frozenset)
    if not is_list or not given or any(day not in list(Day) for day in given):
        raise ValueError(f"'days' must list some of {', '.join(Day)}, not {given!r:.80}.")
    return frozenset(map(Day, given))


def _time(entry: Mapping[str, Any], key: str) -> time:
    given = entry.get(key)
    try:
        if key == "to" and given == _END_OF_DAY:
            return time(0)
        found = time.fromisoformat(given)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{key!r} must be a time such as '22:00', not {given!r}."
        ) from error
    if found.tzinfo is not None:
        raise ValueError(f"{key!r} has no zone of its own: 'timezone' says it for both.")
    return found


def _timezone(given: Any) -> ZoneInfo:
    """Read the name of a zone. It has to be said: the server's is not the reader's."""
    try:
        return ZoneInfo(given)
    except (OSError, TypeError, ValueError, LookupError) as error:
        raise ValueError(
            f"'timezone' must name a zone such as 'Europe/Berlin', not {given!r:.80}; "
            "where a system has no zones, install tzdata."
        ) from error


def _databases(given: Any, aliases: Collection[str]) -> frozenset[str] | None:
    if given is None:
        return None
    is_list = isinstance(given, list | tuple | set | frozenset)
    if not is_list or not given or any(alias not in list(aliases) for alias in given):
        raise ValueError(f"'databases' must list aliases of DATABASES, not {given!r:.80}.")
    return frozenset(given)
