"""How are HEALTH and FREEZES read?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any

from migration_route.clock import duration
from migration_route.health import Freeze, HealthSettings, SignalName

_LONGEST_REASON = 500


def read_health(value: Any) -> tuple[HealthSettings | None, list[str]]:
    """Read HEALTH: a dict, or None for off; return it with what is wrong in it."""
    if value is None:
        return None, []
    if not isinstance(value, Mapping):
        return HealthSettings(), ["HEALTH must be a dict, or None for off."]
    usual = HealthSettings()
    known = {setting.name: getattr(usual, setting.name) for setting in fields(usual)}
    found: dict[str, Any] = {}
    problems = []
    for key, given in value.items():
        if key not in known:
            problems.append(f"{key!r} is not known; there are {', '.join(known)}.")
            continue
        try:
            found[key] = _read(given, known[key])
        except ValueError as error:
            problems.append(f"{key!r} must be {error}, not {given!r:.80}.")
    return HealthSettings(**found), [f"HEALTH: {text}" for text in problems]


def _read(given: Any, usual: Any) -> Any:
    """Read a value of the kind of the usual one; raises `ValueError` with that kind."""
    match usual:
        case timedelta():
            return _duration(given)
        case frozenset():
            return _names(given)
        case int():
            if type(given) is not int or given <= 0:
                raise ValueError("a whole number above 0")
            return given
        case _:
            if type(given) not in {int, float} or not 0 < given < float("inf"):
                raise ValueError("a number above 0")
            return float(given)


def _duration(given: Any) -> timedelta:
    try:
        found = duration(given)
    except (ValueError, AttributeError, TypeError, OverflowError) as error:
        raise ValueError("a duration such as '60s'") from error
    if not found:
        raise ValueError("longer than nothing")
    return found


def _names(given: Any) -> frozenset[SignalName]:
    is_list = isinstance(given, list | tuple | set | frozenset)
    if not is_list or any(name not in list(SignalName) for name in given):
        raise ValueError(f"a list of signals: {', '.join(SignalName)}")
    return frozenset(map(SignalName, given))


def read_freezes(value: Any) -> tuple[tuple[Freeze, ...], list[str]]:
    """Read FREEZES: a list of dicts; return them with what is wrong in them.

    A guard that cannot be read is shut: what is wrong freezes, until it is put right.
    """
    if value is None:
        return (), []
    if not isinstance(value, list | tuple):
        return (_unreadable("FREEZES"),), ["FREEZES must be a list of dicts."]
    found, problems = [], []
    for position, entry in enumerate(value):
        try:
            found.append(_freeze(entry))
        except ValueError as error:
            problems.append(f"FREEZES[{position}]: {error}")
            found.append(_unreadable(f"FREEZES[{position}]"))
    return tuple(found), problems


def _unreadable(what: str) -> Freeze:
    return Freeze(
        begins=datetime.min.replace(tzinfo=UTC),
        ends=datetime.max.replace(tzinfo=UTC),
        reason=f"{what} in the settings cannot be read",
    )


def _freeze(entry: Any) -> Freeze:
    if not isinstance(entry, Mapping):
        raise ValueError("must be a dict.")  # noqa: TRY004 - a value, not a call, is wrong
    unknown = sorted(map(str, set(entry) - {"from", "until", "reason"}))
    if unknown:
        raise ValueError(f"unknown keys {unknown}; there are 'from', 'until', 'reason'.")
    reason = entry.get("reason")
    if (
        not isinstance(reason, str)
        or not reason.isprintable()
        or not 0 < len(reason) <= _LONGEST_REASON
    ):
        raise ValueError("needs a 'reason', a text of one line.")
    begins, ends = _moment(entry, "from"), _moment(entry, "until")
    if begins >= ends:
        raise ValueError("'until' must lie behind 'from'.")
    return Freeze(begins=begins, ends=ends, reason=reason)


def _moment(entry: Mapping[str, Any], key: str) -> datetime:
    given: Any = entry.get(key)
    try:
        found = given if isinstance(given, datetime) else datetime.fromisoformat(given)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{key!r} must be a time such as '2026-12-24T18:00:00+01:00', "
            f"not {given!r:.80}."
        ) from error
    if found.tzinfo is None:
        raise ValueError(f"{key!r} needs its time zone, as in '2026-12-24T18:00:00+01:00'.")
    return found
