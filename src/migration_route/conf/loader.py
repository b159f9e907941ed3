"""Reads MIGRATION_ROUTE and collects all its problems."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from django.conf import settings

from migration_route.conf.command import read_command
from migration_route.conf.notifications import read_mail, read_webhooks
from migration_route.conf.oidc import read_issuers
from migration_route.conf.policy import (
    read_approvals,
    read_freezes,
    read_health,
    read_windows,
)
from migration_route.conf.types import DatabaseSettings, RouteSettings
from migration_route.core.credentials import Networks, read_networks, read_tokens
from migration_route.core.setting_values import (
    Invalid,
    checked,
    duration_or_none,
    is_line,
    is_list,
    is_list_of,
    optional,
    read_boolean,
    read_keys,
    reader,
)

LAUNCHERS = ("process", "inline", "worker", "tasks")
_LONGEST = 200
BUILD_VARIABLES = (
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


# A text is used in a header and in a column: one line, and of limited length.
_line = reader(
    f"a one-line string of at most {_LONGEST} characters",
    lambda value: is_line(value, _LONGEST),
)


def _duration(value: Any) -> timedelta:
    found = duration_or_none(value)
    if found is None:
        raise Invalid(f"must be a duration such as '15s', not {value!r}.")
    if not found:
        raise Invalid("must be longer than zero.")
    return found


def _launcher(value: Any) -> Any:
    found = _line(value)
    if found not in LAUNCHERS and "." not in found:
        problem = f"must be {', '.join(LAUNCHERS)} or a dotted path, not {found!r}."
        raise Invalid(problem, instead=found)
    return found


def _build(value: Any) -> Any:
    is_unset = value is None and _build_of_environment() is None
    return None if is_unset else _line(value)


def _aliases(value: Any) -> frozenset[str]:
    if not is_list_of(value, settings.DATABASES):
        raise Invalid(f"must be a list of aliases in DATABASES, not {value!r}.")
    return frozenset(value)


def _networks(value: Any) -> Networks:
    found, problems = read_networks(value)
    return checked(found, [f": {problem}" for problem in problems])


# Invalid groups of a database admit superusers only.
_groups = reader(
    "a list of group names",
    lambda value: is_list(value) and all(isinstance(n, str) and n for n in value),
    frozenset,
    instead=frozenset(),
)


def _reauthentication(value: Any) -> timedelta | str | None:
    """Read a duration, a dotted path, or None to turn it off."""
    if value is None:
        return None
    if isinstance(value, str):
        if found := duration_or_none(value):
            return found
        parts = value.split(".")
        if len(parts) > 1 and all(part.isidentifier() for part in parts):
            return value
    raise Invalid(
        f"must be a duration such as '15m', a dotted path, or None, not {value!r:.80}."
    )


_DATABASE_KEYS = {
    "direct_alias": optional(_line),
    "lock_timeout": optional(_duration),
    "blocking_budget": optional(_duration),
    "lock_retry_timeout": optional(_duration),
    "allow_terminate_blockers": read_boolean,
    "rehearsal_alias": optional(_line),
    "in_place_timeout": optional(_duration),
    "groups": optional(_groups),
}


def _subject(key: str) -> str:
    return repr(key) if key == "groups" else key


def _databases(value: Any) -> dict[str, DatabaseSettings]:
    if not isinstance(value, Mapping):
        raise Invalid("must be a dict of dicts, keyed by alias.")
    found: dict[str, DatabaseSettings] = {}
    problems: list[str] = []
    for alias, entry in value.items():
        if alias not in list(settings.DATABASES):
            problems.append(f"[{alias!r}]: the project has no such alias.")
        elif not isinstance(entry, Mapping):
            problems.append(f"[{alias!r}] must be a dict.")
        else:
            words, wrong = read_keys(entry, _DATABASE_KEYS, _subject)
            found[alias] = DatabaseSettings(**words)
            others = settings.DATABASES.keys() - {alias}
            wrong += [
                f"{key!r} must name another alias in DATABASES."
                for key in ("direct_alias", "rehearsal_alias")
                if key in words and words[key] not in others
            ]
            problems += [f"[{alias!r}]: {text}" for text in wrong]
    return checked(found, problems)


# Sorted, as the problem of an unknown key lists them.
_KEYS = {
    "APPROVALS": optional(read_approvals),
    "BUILD": _build,
    "COMMAND": optional(read_command),
    "DATABASES": _databases,
    "EMAIL": read_mail,
    "FREEZES": optional(read_freezes),
    "GUARD_MIGRATE": read_boolean,
    "GUARD_MIGRATE_TIMEOUT": optional(_duration),
    "HEALTH": read_health,
    "HEARTBEAT_TIMEOUT": optional(_duration),
    "LAUNCHER": _launcher,
    "LEDGER_DATABASE": _line,
    "LINTERS": read_boolean,
    "MAX_REQUEST_WAIT": optional(_duration),
    "NETWORKS": _networks,
    "OIDC": read_issuers,
    "PERMITS": read_boolean,
    "READY_DATABASES": optional(_aliases),
    "READY_WHEN_AHEAD": read_boolean,
    "REAUTHENTICATION": _reauthentication,
    "RECORD_ERROR_DETAIL": read_boolean,
    "RUN_LOCK_TIMEOUT": optional(_duration),
    "TASK_BACKEND": _line,
    "TASK_QUEUE": _line,
    "TOKENS": read_tokens,
    "WEBHOOKS": read_webhooks,
    "WINDOWS": optional(read_windows),
}


def read_settings(values: Any) -> RouteSettings:
    """Read MIGRATION_ROUTE; its problems are in `problems`."""
    if not isinstance(values, Mapping):
        return RouteSettings(problems=("MIGRATION_ROUTE must be a dict.",))
    words, problems = read_keys(values, _KEYS)
    words.setdefault("BUILD", _build_of_environment())
    found = RouteSettings(**{key.lower(): value for key, value in words.items()})
    problems += _alias_problems(found.databases, found.ledger_database)
    return replace(found, problems=tuple(problems))


def _alias_problems(databases: Mapping[str, DatabaseSettings], ledger: str) -> list[str]:
    """Return the problems of the ledger's alias, and of direct aliases: each connects
    straight to one database."""
    problems = []
    if ledger not in settings.DATABASES:
        problems.append(f"LEDGER_DATABASE is {ledger!r}, which is not in DATABASES.")
    for alias, found in databases.items():
        if found.direct_alias is None or found.direct_alias == alias:
            continue
        way = databases.get(found.direct_alias)
        if way is not None and way.direct_alias is not None:
            problems.append(
                f"DATABASES[{alias!r}]: 'direct_alias' must name an alias that has no "
                "direct alias itself."
            )
        if found.direct_alias == ledger:
            problems.append(
                f"LEDGER_DATABASE is {ledger!r}, which is only the direct alias of "
                f"{alias!r}. Set it to {alias!r}."
            )
    return problems


def _build_of_environment() -> str | None:
    found = (os.environ.get(name, "").strip() for name in BUILD_VARIABLES)
    return next((text[:_LONGEST] for text in found if text and text.isprintable()), None)
