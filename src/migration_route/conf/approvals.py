"""How is APPROVALS read?"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any

from migration_route.approvals import APPROVE, ApprovalPolicy, Rule, When
from migration_route.clock import duration
from migration_route.findings import CODES, ENGINES, FAMILIES
from migration_route.vocabulary import ActorKind, Scope, Severity

_ACTORS = (ActorKind.TOKEN, ActorKind.PERSON, ActorKind.COMMAND)
_VERBS = (Scope.APPLY, Scope.REVERSE, Scope.FAKE)
_KEYS = tuple(found.name for found in fields(Rule) if found.name != "number")
_PERMISSION = re.compile(r"[A-Za-z_]\w*\.\w+")
_OWN = f"migration_route.{APPROVE}"
_MOST = 20  # people whose approval one plan can need
_LONGEST = timedelta(days=366)  # in which somebody has to answer


def read_approvals(
    value: Any, aliases: Collection[str]
) -> tuple[ApprovalPolicy | None, list[str]]:
    """Read APPROVALS: a dict that is one rule or has `rules`, or None for off; return it
    with what is wrong in it.

    A guard that cannot be read is shut: nothing passes until it is put right.
    """
    if value is None:
        return None, []
    if not isinstance(value, Mapping):
        return _read([], ["APPROVALS must be a dict, or None for off."])
    if "rules" not in value:
        return _read(*_rules([value], aliases, "APPROVALS", first=0))
    problems = []
    if beside := sorted(map(str, set(value) - {"rules"})):
        problems.append(
            f"APPROVALS: {', '.join(map(repr, beside))} must stand in a rule, not beside "
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
        place = f"{where}[{position}]" if first else where
        problems += [f"{place}: {text}" for text in reader.problems]
    return rules, problems


class _RuleReader:
    """Reads one rule key by key, collecting what is wrong."""

    def __init__(self, entry: Any, aliases: Collection[str]) -> None:
        self.problems: list[str] = []
        self._aliases = aliases
        self._entry: dict[Any, Any] = {}
        if not isinstance(entry, Mapping):
            self.problems.append("must be a dict.")
            return
        self._entry = dict(entry)
        self.problems += [
            f"{key!r} is not known; there are {', '.join(_KEYS)}."
            for key in self._entry
            if key not in _KEYS
        ]

    def rule(self, *, number: int) -> Rule:
        usual = Rule()
        found = Rule(
            number=number,
            databases=self._names("databases", self._aliases, "an alias of DATABASES"),
            actors=self._words("actors", _ACTORS),
            verbs=self._words("verbs", _VERBS),
            findings=self._findings(),
            when=self._when(),
            required=self._required(usual.required),
            permission=self._permission(),
            self_approval=self._truth("self_approval", usual=usual.self_approval),
            lifetime=self._duration("lifetime", usual.lifetime),
        )
        if found.when is When.NEVER and found.findings is not None:
            self.problems.append(
                "'findings' has no sense with 'when': 'never': no plan is harmless because "
                "something was found in it. Put a rule that asks before this one."
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
            f"{key!r} names {name!r:.80}, which is not {what}." for name in unknown
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
                if isinstance(name, str) and name.partition(".")[0] in ENGINES
            }
        known = [*CODES, *FAMILIES, *map(str, Severity), *of_engines]
        return self._names("findings", known, "a code, a family or a severity of findings")

    def _when(self) -> When:
        value = self._entry.get("when", When.ALWAYS)
        if not isinstance(value, str) or value not in list(When):
            self.problems.append(f"'when' must be {', '.join(When)}, not {value!r:.80}.")
            return When.ALWAYS
        return When(value)

    def _required(self, usual: int) -> int:
        value = self._entry.get("required", usual)
        if type(value) is not int or not 0 < value <= _MOST:
            self.problems.append(
                f"'required' must be a number from 1 to {_MOST}, not {value!r:.80}; a rule "
                "that asks for nothing says 'when': 'never'."
            )
            return usual
        return value

    def _permission(self) -> str:
        value = self._entry.get("permission", APPROVE)
        if value in (APPROVE, _OWN):
            return APPROVE
        if not isinstance(value, str) or not _PERMISSION.fullmatch(value):
            self.problems.append(
                f"'permission' must be 'approve', or a permission of Django such as "
                f"'shop.approve_migrations', not {value!r:.80}."
            )
            return APPROVE
        return value

    def _truth(self, key: str, *, usual: bool) -> bool:
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
                f"{key!r} must be a duration such as '24h', of a year at most, "
                f"not {value!r:.80}."
            )
            return usual
        return found
