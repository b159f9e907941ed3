"""What has the project set in MIGRATION_ROUTE?

One frozen value, read on first use and forgotten when the setting changes. What is
wrong in it is found all at once, by the system checks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from migration_route.clock import duration
from migration_route.vocabulary import PEOPLE_ONLY, Scope

LAUNCHERS = ("process", "inline")
_SHA256_LENGTH = 64
_LONGEST = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A machine's right to ask, known only by the digest of its secret."""

    name: str
    sha256: str
    scopes: frozenset[Scope]
    databases: frozenset[str] | None = None  # None: every database
    expires: date | None = None  # the first day on which it is no longer good


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """The setting MIGRATION_ROUTE, checked, with its defaults."""

    launcher: str = "process"
    ledger_database: str = "default"
    lease: timedelta = timedelta(seconds=15)
    wait: timedelta = timedelta(seconds=20)
    lock_wait: timedelta = timedelta(seconds=60)
    tokens: tuple[Token, ...] = ()
    build: str | None = None
    ready_when_ahead: bool = True
    ready_databases: frozenset[str] | None = None  # those that `ready` counts; None: all
    unsupported: tuple[str, ...] = ()  # guards that are set but not carried yet
    without_effect: tuple[str, ...] = ()  # keys that are set and change nothing yet
    problems: tuple[str, ...] = field(default=())


# Guards of the public contract that this version does not carry yet. To ignore one
# would open a door that its owner believes shut: while one is set, nothing is applied.
_NOT_YET = (
    "APPROVALS",
    "DATABASES",
    "FREEZES",
    "NETWORKS",
    "OIDC",
    "REAUTHENTICATE",
    "WEBHOOKS",
    "WINDOWS",
)
# Keys of the contract that may be set already and that change nothing yet.
_ACCEPTED = ("GUARD", "GUARD_WAIT")
_FOUND = frozenset({"PROBLEMS", "UNSUPPORTED", "WITHOUT_EFFECT"})  # said, never set
_BUILD_VARIABLES = (
    "MIGRATION_ROUTE_BUILD",
    "GIT_COMMIT",
    "GIT_SHA",
    "COMMIT_SHA",
    "SOURCE_VERSION",
    "K_REVISION",
    "RENDER_GIT_COMMIT",
    "RAILWAY_GIT_COMMIT_SHA",
    "HEROKU_SLUG_COMMIT",
)


class _Reader:
    """Reads the keys of a mapping one by one, collecting what is wrong."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)
        self.given = frozenset(values)
        self.known = settings.DATABASES
        self.problems: list[str] = []

    def text(self, key: str, default: str | None) -> Any:
        value = self.values.pop(key, None)
        if value is None and default is None:
            return None
        value = default if value is None and key not in self.given else value
        # It goes into a header and a column: of one line, and of bounded length.
        good = isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable()
        if not good:
            self.problems.append(f"{key} must be a text of one line, not {value!r:.80}.")
            return default
        return value

    def truth(self, key: str, *, default: bool) -> bool:
        value = self.values.pop(key, default)
        if not isinstance(value, bool):
            self.problems.append(f"{key} must be True or False.")
            return default
        return value

    def length_of_time(self, key: str, default: timedelta) -> timedelta:
        value = self.values.pop(key, None)
        if value is None:
            return default
        try:
            found = duration(value)
        except (ValueError, AttributeError, TypeError, OverflowError):
            self.problems.append(f"{key} must be a duration such as '15s', not {value!r}.")
            return default
        if not found:
            self.problems.append(f"{key} must be longer than nothing.")
            return default
        return found

    def aliases(self, key: str) -> frozenset[str] | None:
        value = self.values.pop(key, None)
        if value is None:
            return None
        is_list = isinstance(value, list | tuple | set | frozenset)
        if not is_list or any(alias not in list(self.known) for alias in value):
            self.problems.append(f"{key} must list aliases of DATABASES, not {value!r}.")
            return None
        return frozenset(value)

    def tokens(self) -> tuple[Token, ...]:
        entries = self.values.pop("TOKENS", ())
        if not isinstance(entries, list | tuple):
            self.problems.append("TOKENS must be a list of dicts.")
            return ()
        found: list[Token] = []
        for position, entry in enumerate(entries):
            try:
                found.append(_token(entry))
            except (ValueError, TypeError) as error:
                self.problems.append(f"TOKENS[{position}]: {error}")
        return tuple(found)


def _token(entry: Any) -> Token:
    """Read one entry of TOKENS; raises `ValueError` with what is wrong."""
    if not isinstance(entry, Mapping):
        raise ValueError("must be a dict.")  # noqa: TRY004 - a value, not a call, is wrong
    unknown = set(entry) - {"name", "sha256", "scopes", "databases", "expires"}
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)}.")
    name, sha256 = entry.get("name"), entry.get("sha256")
    if not isinstance(name, str) or not name:
        raise ValueError("needs a 'name'.")
    if (
        not isinstance(sha256, str)
        or len(sha256) != _SHA256_LENGTH
        or set(sha256.lower()) - set("0123456789abcdef")
    ):
        raise ValueError(
            "needs 'sha256', 64 hexadecimal digits: 'manage.py migration_route token "
            "new NAME --scope …' prints them."
        )
    scopes = _scopes(entry.get("scopes"))
    databases = entry.get("databases")
    if databases is not None and (
        not isinstance(databases, list | tuple | set | frozenset)
        or not all(isinstance(alias, str) for alias in databases)
    ):
        raise ValueError("'databases' must be a list of aliases.")
    return Token(
        name=name,
        sha256=sha256.lower(),
        scopes=scopes,
        databases=None if databases is None else frozenset(databases),
        expires=_day(entry.get("expires")),
    )


def _scopes(value: Any) -> frozenset[Scope]:
    if not isinstance(value, list | tuple | set | frozenset) or not value:
        raise ValueError(f"needs 'scopes', some of {[str(s) for s in Scope]}.")
    unknown = [scope for scope in value if scope not in list(Scope)]
    if unknown:
        raise ValueError(f"unknown scopes {unknown}.")
    scopes = frozenset(Scope(scope) for scope in value)
    if scopes & PEOPLE_ONLY:
        raise ValueError(
            f"{sorted(map(str, scopes & PEOPLE_ONLY))} can be done by people only."
        )
    return scopes


def _day(value: Any) -> date | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"'expires' must be a day such as '2027-01-01', not {value!r}."
        ) from error


def read_settings(values: Any) -> RouteSettings:
    """Read what stands in MIGRATION_ROUTE; what is wrong is in `problems`."""
    if not isinstance(values, Mapping):
        return RouteSettings(problems=("MIGRATION_ROUTE must be a dict.",))
    reader = _Reader(values)
    launcher = reader.text("LAUNCHER", "process")
    if launcher not in LAUNCHERS and "." not in launcher:
        reader.problems.append(
            f"LAUNCHER must be {' or '.join(LAUNCHERS)} or a dotted path, not {launcher!r}."
        )
    ledger_database = reader.text("LEDGER_DATABASE", "default")
    if ledger_database not in settings.DATABASES:
        reader.problems.append(
            f"LEDGER_DATABASE names {ledger_database!r}, which is not in DATABASES."
        )
    result: dict[str, Any] = {
        "launcher": launcher,
        "ledger_database": ledger_database,
        "lease": reader.length_of_time("LEASE", timedelta(seconds=15)),
        "wait": reader.length_of_time("WAIT", timedelta(seconds=20)),
        "lock_wait": reader.length_of_time("LOCK_WAIT", timedelta(seconds=60)),
        "tokens": reader.tokens(),
        "build": reader.text("BUILD", _build_of_environment()),
        "ready_when_ahead": reader.truth("READY_WHEN_AHEAD", default=True),
        "ready_databases": reader.aliases("READY_DATABASES"),
        "unsupported": tuple(key for key in _NOT_YET if reader.values.pop(key, None)),
        "without_effect": tuple(key for key in _ACCEPTED if reader.values.pop(key, None)),
    }
    known = {setting.name.upper() for setting in fields(RouteSettings)}
    known = (known | {*_NOT_YET, *_ACCEPTED}) - {
        "PROBLEMS",
        "UNSUPPORTED",
        "WITHOUT_EFFECT",
    }
    for key in reader.values:
        reader.problems.append(
            f"{key!r} is not a setting of the route; there are {', '.join(sorted(known))}."
        )
    return RouteSettings(**result, problems=tuple(reader.problems))


def _build_of_environment() -> str | None:
    found = (os.environ.get(name, "").strip() for name in _BUILD_VARIABLES)
    return next((text[:_LONGEST] for text in found if text and text.isprintable()), None)


@lru_cache(maxsize=1)
def route_settings() -> RouteSettings:
    """Return the settings of the route."""
    return read_settings(getattr(settings, "MIGRATION_ROUTE", {}))


def _forget(*, setting: str, **_: Any) -> None:
    if setting in {"MIGRATION_ROUTE", "DATABASES"}:
        route_settings.cache_clear()


setting_changed.connect(_forget, dispatch_uid="migration_route.conf")
