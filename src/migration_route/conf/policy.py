"""Reads APPROVALS, HEALTH, FREEZES and WINDOWS."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from migration_route.core.clock import duration
from migration_route.core.enums import ActorKind, Scope, Severity
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
_KEYS = tuple(found.name for found in fields(Rule) if found.name != "number")
_PERMISSION = re.compile(r"[A-Za-z_]\w*\.\w+")
_OWN = f"migration_route.{APPROVE}"
_MOST = 20  # approvals that one plan can require
_LONGEST = timedelta(days=366)  # until an approval request expires


def read_approvals(
    value: Any, aliases: Collection[str]
) -> tuple[ApprovalPolicy | None, list[str]]:
    """Read APPROVALS: a dict that is one rule or has `rules`, or None for off; return it
    with its problems.

    Fails closed: with an invalid value, no plan passes.
    """
    if value is None:
        return None, []
    if not isinstance(value, Mapping):
        return _read([], ["APPROVALS must be a dict or None."])
    if "rules" not in value:
        return _read(*_rules([value], aliases, "APPROVALS", first=0))
    problems = []
    if outside := sorted(map(str, set(value) - {"rules"})):
        problems.append(
            f"APPROVALS: {', '.join(map(repr, outside))} must be in a rule, not next to "
            "'rules'."
        )
    entries = value["rules"]
    if not isinstance(entries, list | tuple):
        return _read([], [*problems, "APPROVALS: 'rules' must be a list of dicts."])
    found, more = _rules(entries, aliases, "APPROVALS['rules']", first=1)
    return _read(found, [*problems, *more])


def _read(rules: list[Rule], problems: list[str]) -> tuple[ApprovalPolicy, list[str]]:
    return ApprovalPolicy(rules=tuple(rules), problems=tuple(problems)), problems


def _rules(
    entries: Iterable[Any], aliases: Collection[str], where: str, *, first: int
) -> tuple[list[Rule], list[str]]:
    rules, problems = [], []
    for position, entry in enumerate(entries):
        reader = _RuleReader(entry, aliases)
        rules.append(reader.rule(number=position + first))
        path = f"{where}[{position}]" if first else where
        problems += [f"{path}: {text}" for text in reader.problems]
    return rules, problems


class _RuleReader:
    """Reads the keys of one rule one by one and collects problems."""

    def __init__(self, entry: Any, aliases: Collection[str]) -> None:
        self.problems: list[str] = []
        self._aliases = aliases
        self._entry: dict[Any, Any] = {}
        if not isinstance(entry, Mapping):
            self.problems.append("must be a dict.")
            return
        self._entry = dict(entry)
        self.problems += [
            f"{key!r} is not a valid key. Valid keys: {', '.join(_KEYS)}."
            for key in self._entry
            if key not in _KEYS
        ]

    def rule(self, *, number: int) -> Rule:
        usual = Rule()
        found = Rule(
            number=number,
            databases=self._names("databases", self._aliases, "an alias in DATABASES"),
            actors=self._words("actors", _ACTORS),
            verbs=self._words("verbs", _VERBS),
            findings=self._findings(),
            when=self._when(),
            required=self._required(usual.required),
            permission=self._permission(),
            self_approval=self._boolean("self_approval", usual=usual.self_approval),
            lifetime=self._duration("lifetime", usual.lifetime),
        )
        if found.when is When.NEVER and found.findings is not None:
            self.problems.append(
                "'findings' cannot be combined with 'when': 'never': a finding does not "
                "make a plan harmless. Put a rule that requires approval before this one."
            )
        return found

    def _names(self, key: str, known: Collection[str], what: str) -> frozenset[str] | None:
        value = self._entry.get(key)
        if value is None:
            return None
        if not isinstance(value, list | tuple | set | frozenset) or not value:
            self.problems.append(f"{key!r} must be a list, not {value!r:.80}.")
            return None
        unknown = [name for name in value if name not in known]
        self.problems += [
            f"{key!r} contains {name!r:.80}, which is not {what}." for name in unknown
        ]
        return frozenset(name for name in value if name in known)

    def _words(self, key: str, known: Collection[Any]) -> frozenset[Any] | None:
        what = f"one of {', '.join(known)}"
        found = self._names(key, list(map(str, known)), what)
        return None if found is None else frozenset(w for w in known if str(w) in found)

    def _findings(self) -> frozenset[str] | None:
        value = self._entry.get("findings")
        of_engines: set[str] = set()
        if isinstance(value, list | tuple | set | frozenset):
            of_engines = {
                name
                for name in value
                if isinstance(name, str) and name.partition(".")[0] in LINTERS
            }
        known = [*CODES, *FAMILIES, *map(str, Severity), *of_engines]
        return self._names("findings", known, "a code, a family or a severity of findings")

    def _when(self) -> When:
        value = self._entry.get("when", When.ALWAYS)
        if not isinstance(value, str) or value not in list(When):
            self.problems.append(
                f"'when' must be one of {', '.join(When)}, not {value!r:.80}."
            )
            return When.ALWAYS
        return When(value)

    def _required(self, usual: int) -> int:
        value = self._entry.get("required", usual)
        if type(value) is not int or not 0 < value <= _MOST:
            self.problems.append(
                f"'required' must be an integer from 1 to {_MOST}, not {value!r:.80}. For "
                "a rule that requires no approval, set 'when': 'never'."
            )
            return usual
        return value

    def _permission(self) -> str:
        value = self._entry.get("permission", APPROVE)
        if value in (APPROVE, _OWN):
            return APPROVE
        if not isinstance(value, str) or not _PERMISSION.fullmatch(value):
            self.problems.append(
                f"'permission' must be 'approve' or a Django permission such as "
                f"'shop.approve_migrations', not {value!r:.80}."
            )
            return APPROVE
        return value

    def _boolean(self, key: str, *, usual: bool) -> bool:
        value = self._entry.get(key, usual)
        if not isinstance(value, bool):
            self.problems.append(f"{key!r} must be True or False, not {value!r:.80}.")
            return usual
        return value

    def _duration(self, key: str, usual: timedelta) -> timedelta:
        value = self._entry.get(key)
        if value is None:
            return usual
        try:
            found = duration(value)
        except (ValueError, AttributeError, TypeError, OverflowError):
            found = timedelta(0)
        if not timedelta(0) < found <= _LONGEST:
            self.problems.append(
                f"{key!r} must be a duration such as '24h' and at most a year, "
                f"not {value!r:.80}."
            )
            return usual
        return found


_LONGEST_REASON = 500


def read_health(value: Any) -> tuple[HealthSettings | None, list[str]]:
    """Read HEALTH: a dict, or None for off; return it with its problems."""
    if value is None:
        return None, []
    if not isinstance(value, Mapping):
        return HealthSettings(), ["HEALTH must be a dict or None."]
    usual = HealthSettings()
    known = {setting.name: getattr(usual, setting.name) for setting in fields(usual)}
    found: dict[str, Any] = {}
    problems = []
    for key, given in value.items():
        if key not in known:
            problems.append(f"{key!r} is not a valid key. Valid keys: {', '.join(known)}.")
            continue
        try:
            found[key] = _health_value(given, known[key])
        except ValueError as error:
            problems.append(f"{key!r} must be {error}, not {given!r:.80}.")
    return HealthSettings(**found), [f"HEALTH: {text}" for text in problems]


def _health_value(given: Any, usual: Any) -> Any:
    """Read a value of the type of `usual`; raises `ValueError` that names the type."""
    match usual:
        case timedelta():
            return _duration(given)
        case frozenset():
            return _names(given)
        case int():
            if type(given) is not int or given <= 0:
                raise ValueError("an integer above 0")
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
        raise ValueError("longer than zero")
    return found


def _names(given: Any) -> frozenset[SignalName]:
    is_list = isinstance(given, list | tuple | set | frozenset)
    if not is_list or any(name not in list(SignalName) for name in given):
        raise ValueError(f"a list of signals: {', '.join(SignalName)}")
    return frozenset(map(SignalName, given))


def read_freezes(value: Any) -> tuple[tuple[Freeze, ...], list[str]]:
    """Read FREEZES: a list of dicts; return them with their problems.

    Fails closed: an invalid entry counts as a permanent freeze.
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
        reason=f"{what} in the settings is invalid",
    )


def _freeze(entry: Any) -> Freeze:
    if not isinstance(entry, Mapping):
        raise ValueError("must be a dict.")  # noqa: TRY004 - an invalid value
    unknown = sorted(map(str, set(entry) - {"start", "end", "reason"}))
    if unknown:
        raise ValueError(f"unknown keys {unknown}. Valid keys: 'start', 'end', 'reason'.")
    reason = entry.get("reason")
    if (
        not isinstance(reason, str)
        or not reason.isprintable()
        or not 0 < len(reason) <= _LONGEST_REASON
    ):
        raise ValueError(
            f"'reason' must be a one-line string of at most {_LONGEST_REASON} characters."
        )
    begins, ends = _aware_datetime(entry, "start"), _aware_datetime(entry, "end")
    if begins >= ends:
        raise ValueError("'end' must be after 'start'.")
    return Freeze(begins=begins, ends=ends, reason=reason)


def _aware_datetime(entry: Mapping[str, Any], key: str) -> datetime:
    value: Any = entry.get(key)
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{key!r} must be a time such as '2026-12-24T18:00:00+01:00', "
            f"not {value!r:.80}."
        ) from error
    if found.tzinfo is None:
        raise ValueError(f"{key!r} needs a time zone, as in '2026-12-24T18:00:00+01:00'.")
    return found


_WINDOWS_KEYS = frozenset({"days", "start", "end", "timezone", "databases"})
_END_OF_DAY = "24:00"


def read_windows(
    value: Any, aliases: Collection[str]
) -> tuple[tuple[Window, ...], list[str]]:
    """Read WINDOWS: a list of dicts; return them with their problems.

    Fails closed: an invalid entry counts as a window that never opens, for every database.
    """
    if value is None:
        return (), []
    if not isinstance(value, list | tuple):
        return (_NEVER_OPEN,), ["WINDOWS must be a list of dicts."]
    found, problems = [], []
    for position, entry in enumerate(value):
        try:
            found.append(_window(entry, aliases))
        except ValueError as error:
            problems.append(f"WINDOWS[{position}]: {error}")
            found.append(_NEVER_OPEN)
    return tuple(found), problems


_NEVER_OPEN = Window(
    days=frozenset(), begins=time(0), ends=time(0), timezone=ZoneInfo("UTC")
)


def _window(entry: Any, aliases: Collection[str]) -> Window:
    if not isinstance(entry, Mapping):
        raise ValueError("must be a dict.")  # noqa: TRY004 - an invalid value
    if unknown := sorted(map(str, set(entry) - _WINDOWS_KEYS)):
        raise ValueError(
            f"unknown keys {unknown}. Valid keys: {', '.join(sorted(_WINDOWS_KEYS))}."
        )
    return Window(
        days=_days(entry.get("days", list(Day))),
        begins=_time(entry, "start"),
        ends=_time(entry, "end"),
        timezone=_timezone(entry.get("timezone")),
        databases=_databases(entry.get("databases"), aliases),
    )


def _days(given: Any) -> frozenset[Day]:
    is_list = isinstance(given, list | tuple | set | frozenset)
    if not is_list or not given or any(day not in list(Day) for day in given):
        raise ValueError(f"'days' must be a list of {', '.join(Day)}, not {given!r:.80}.")
    return frozenset(map(Day, given))


def _time(entry: Mapping[str, Any], key: str) -> time:
    given = entry.get(key)
    try:
        if key == "end" and given == _END_OF_DAY:
            return time(0)
        found = time.fromisoformat(given)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{key!r} must be a time such as '22:00', not {given!r}."
        ) from error
    if found.tzinfo is not None:
        raise ValueError(f"{key!r} must have no UTC offset: 'timezone' applies to it.")
    return found


def _timezone(given: Any) -> ZoneInfo:
    """Read the name of a time zone. It is required: the server's may not be the
    reader's."""
    try:
        return ZoneInfo(given)
    except (OSError, TypeError, ValueError, LookupError) as error:
        raise ValueError(
            f"'timezone' must be a time zone such as 'Europe/Berlin', not {given!r:.80}. "
            "If the system has no time zone data, install tzdata."
        ) from error


def _databases(given: Any, aliases: Collection[str]) -> frozenset[str] | None:
    if given is None:
        return None
    is_list = isinstance(given, list | tuple | set | frozenset)
    if not is_list or not given or any(alias not in list(aliases) for alias in given):
        raise ValueError(
            f"'databases' must be a list of aliases in DATABASES, not {given!r:.80}."
        )
    return frozenset(given)
