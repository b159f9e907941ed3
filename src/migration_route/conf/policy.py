"""Reads APPROVALS, HEALTH, FREEZES and WINDOWS."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings

from migration_route.core.clock import duration
from migration_route.core.enums import ActorKind, Scope, Severity
from migration_route.core.setting_values import (
    Invalid,
    Reader,
    about,
    checked,
    duration_or_none,
    is_line,
    is_list,
    is_list_of,
    optional,
    read_entries,
    read_item,
    read_keys,
    reader,
    refuse_unknown_keys,
)
from migration_route.core.values import (
    APPROVE,
    CODES,
    FAMILIES,
    LINTERS,
    ApprovalPolicy,
    Day,
    Freeze,
    HealthSettings,
    Rule,
    SignalName,
    When,
    Window,
)

_ACTORS = (ActorKind.TOKEN, ActorKind.USER, ActorKind.COMMAND)
_VERBS = (Scope.APPLY, Scope.REVERSE, Scope.FAKE)
_PERMISSION = re.compile(r"[A-Za-z_]\w*\.\w+")
_OWN = f"migration_route.{APPROVE}"
_MOST = 20  # approvals that one plan can require
_LONGEST = timedelta(days=366)  # until an approval request expires


def read_approvals(value: Any) -> ApprovalPolicy:
    """Read APPROVALS: a dict that is one rule or has `rules`. Raises `Invalid`.

    Fails closed: with an invalid value, no plan passes.
    """
    problems: list[str] = []
    entries: dict[str, Any] = {}  # by path
    if not isinstance(value, Mapping):
        problems.append("must be a dict or None.")
    elif "rules" not in value:
        entries[""] = value
    else:
        if outside := sorted(map(str, set(value) - {"rules"})):
            keys = ", ".join(map(repr, outside))
            problems.append(f": {keys} must be in a rule, not next to 'rules'.")
        if isinstance(value["rules"], list | tuple):
            entries = {f"['rules'][{i}]": rule for i, rule in enumerate(value["rules"])}
        else:
            problems.append(": 'rules' must be a list of dicts.")
    rules = []
    first = 0 if "" in entries else 1
    for number, (path, entry) in enumerate(entries.items(), start=first):
        rule, wrong = _rule(entry, number=number)
        rules.append(rule)
        problems += [f"{path}: {text}" for text in wrong]
    policy = ApprovalPolicy(
        rules=tuple(rules), problems=tuple(about("APPROVALS", problems))
    )
    return checked(policy, problems)


def _rule(entry: Any, *, number: int) -> tuple[Rule, list[str]]:
    """Read one rule; return it with its problems."""
    if not isinstance(entry, Mapping):
        return Rule(number=number), ["must be a dict."]
    words, problems = read_keys(entry, _RULE_KEYS, repr)
    found = Rule(number=number, **words)
    if found.when is When.NEVER and found.findings is not None:
        problems.append(
            "'findings' cannot be combined with 'when': 'never': a finding does not "
            "make a plan harmless. Put a rule that requires approval before this one."
        )
    return found, problems


def _known(value: Any, known: Iterable[Any], what: str) -> frozenset[Any]:
    """Read a list of some of the known names; an unknown name is left out."""
    if not is_list(value) or not value:
        raise Invalid(f"must be a list, not {value!r:.80}.")
    choices = list(known)
    return checked(
        frozenset(choices[choices.index(name)] for name in value if name in choices),
        [
            f"contains {name!r:.80}, which is not {what}."
            for name in value
            if name not in choices
        ],
    )


def _findings(value: Any) -> frozenset[str]:
    of_linters = {
        name
        for name in (value if is_list(value) else ())
        if isinstance(name, str) and name.partition(".")[0] in LINTERS
    }
    known = [*CODES, *FAMILIES, *map(str, Severity), *of_linters]
    return _known(value, known, "a code, a family or a severity of findings")


_permission = reader(
    "'approve' or a Django permission such as 'shop.approve_migrations'",
    lambda value: (
        value == APPROVE or (isinstance(value, str) and _PERMISSION.fullmatch(value))
    ),
    lambda value: APPROVE if value == _OWN else value,
)


def _required(value: Any) -> int:
    if type(value) is not int or not 0 < value <= _MOST:
        raise Invalid(
            f"must be an integer from 1 to {_MOST}, not {value!r:.80}. For a rule that "
            "requires no approval, set 'when': 'never'."
        )
    return value


_lifetime = reader(
    "a duration such as '24h' and at most a year",
    lambda value: timedelta(0) < (duration_or_none(value) or timedelta(0)) <= _LONGEST,
    duration,
)


_RULE_KEYS = {
    "databases": optional(
        lambda value: _known(value, settings.DATABASES, "an alias in DATABASES")
    ),
    "actors": optional(
        lambda value: _known(value, _ACTORS, f"one of {', '.join(_ACTORS)}")
    ),
    "verbs": optional(lambda value: _known(value, _VERBS, f"one of {', '.join(_VERBS)}")),
    "findings": optional(_findings),
    "when": reader(f"one of {', '.join(When)}", lambda value: value in list(When), When),
    "required": _required,
    "permission": _permission,
    "self_approval": reader("True or False", lambda value: isinstance(value, bool)),
    "lifetime": optional(_lifetime),
}


_LONGEST_REASON = 500


def read_health(value: Any) -> HealthSettings | None:
    """Read HEALTH: a dict, or None for off. Raises `Invalid`."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise Invalid("must be a dict or None.")
    words, problems = read_keys(value, _HEALTH_KEYS, repr)
    return checked(HealthSettings(**words), [f": {text}" for text in problems])


def _health_duration(value: Any) -> timedelta:
    found = duration_or_none(value)
    if not found:
        kind = "a duration such as '60s'" if found is None else "longer than zero"
        raise Invalid(f"must be {kind}, not {value!r:.80}.")
    return found


_READERS_BY_TYPE: dict[type, Reader] = {
    timedelta: _health_duration,
    frozenset: reader(
        f"a list of signals: {', '.join(SignalName)}",
        lambda value: is_list_of(value, SignalName),
        lambda value: frozenset(map(SignalName, value)),
    ),
    int: reader("an integer above 0", lambda value: type(value) is int and value > 0),
    float: reader(
        "a number above 0",
        lambda value: type(value) in {int, float} and 0 < value < float("inf"),
        float,
    ),
}
_HEALTH_KEYS = {
    found.name: _READERS_BY_TYPE[type(found.default)] for found in fields(HealthSettings)
}


def read_freezes(value: Any) -> tuple[Freeze, ...]:
    """Read FREEZES: a list of dicts. Raises `Invalid`.

    Fails closed: an invalid entry counts as a permanent freeze.
    """
    return read_entries(value, _freeze, instead=_permanent)


def _permanent(path: str) -> Freeze:
    return Freeze(
        begins=datetime.min.replace(tzinfo=UTC),
        ends=datetime.max.replace(tzinfo=UTC),
        reason=f"FREEZES{path} in the settings is invalid",
    )


def _freeze(entry: Mapping[str, Any]) -> Freeze:
    keys = ("start", "end", "reason")
    refuse_unknown_keys(entry, keys, valid=", ".join(map(repr, keys)))
    reason = entry.get("reason")
    if not is_line(reason, _LONGEST_REASON):
        raise Invalid(
            f"'reason' must be a one-line string of at most {_LONGEST_REASON} characters."
        )
    begins, ends = _aware_datetime(entry, "start"), _aware_datetime(entry, "end")
    if begins >= ends:
        raise Invalid("'end' must be after 'start'.")
    return Freeze(begins=begins, ends=ends, reason=str(reason))


def _aware_datetime(entry: Mapping[str, Any], key: str) -> datetime:
    value: Any = entry.get(key)
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise Invalid(
            f"{key!r} must be a time such as '2026-12-24T18:00:00+01:00', "
            f"not {value!r:.80}."
        ) from error
    if found.tzinfo is None:
        raise Invalid(f"{key!r} needs a time zone, as in '2026-12-24T18:00:00+01:00'.")
    return found


_WINDOW_KEYS = ("databases", "days", "end", "start", "timezone")
_END_OF_DAY = "24:00"
_NEVER_OPEN = Window(
    days=frozenset(), begins=time(0), ends=time(0), timezone=ZoneInfo("UTC")
)


def read_windows(value: Any) -> tuple[Window, ...]:
    """Read WINDOWS: a list of dicts. Raises `Invalid`.

    Fails closed: an invalid entry counts as a window that never opens, for every database.
    """
    return read_entries(value, _window, instead=lambda _: _NEVER_OPEN)


def _window(entry: Mapping[str, Any]) -> Window:
    refuse_unknown_keys(entry, _WINDOW_KEYS)
    return Window(
        days=read_item(entry, "days", _days, frozenset(Day)),
        begins=_time(entry, "start"),
        ends=_time(entry, "end"),
        timezone=_timezone(entry.get("timezone")),
        databases=read_item(entry, "databases", optional(_databases)),
    )


_days = reader(
    f"a list of {', '.join(Day)}",
    lambda value: is_list_of(value, Day) and value,
    lambda value: frozenset(map(Day, value)),
)
_databases = reader(
    "a list of aliases in DATABASES",
    lambda value: is_list_of(value, settings.DATABASES) and value,
    frozenset,
)


def _time(entry: Mapping[str, Any], key: str) -> time:
    given = entry.get(key)
    try:
        if key == "end" and given == _END_OF_DAY:
            return time(0)
        found = time.fromisoformat(given)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise Invalid(f"{key!r} must be a time such as '22:00', not {given!r}.") from error
    if found.tzinfo is not None:
        raise Invalid(f"{key!r} must have no UTC offset: 'timezone' applies to it.")
    return found


def _timezone(given: Any) -> ZoneInfo:
    """Read the name of a time zone. It is required: the server's may not be the
    reader's."""
    try:
        return ZoneInfo(given)
    except (OSError, TypeError, ValueError, LookupError) as error:
        raise Invalid(
            f"'timezone' must be a time zone such as 'Europe/Berlin', not {given!r:.80}. "
            "If the system has no time zone data, install tzdata."
        ) from error
