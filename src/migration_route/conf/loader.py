"""Reads MIGRATION_ROUTE and collects all its problems."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import fields
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
from migration_route.core.clock import duration
from migration_route.core.credentials import read_networks, read_tokens

_DEFAULT_REAUTHENTICATION = timedelta(minutes=15)


def read_reauthentication(value: Any) -> tuple[timedelta | str | None, list[str]]:
    """Read REAUTHENTICATION: a duration, a dotted path, or None to turn it off; return it
    with its problems. An invalid value counts as the default."""
    if value is None:
        return None, []
    if isinstance(value, str):
        try:
            if found := duration(value):
                return found, []
        except ValueError:
            parts = value.split(".")
            if len(parts) > 1 and all(part.isidentifier() for part in parts):
                return value, []
    return _DEFAULT_REAUTHENTICATION, [
        "REAUTHENTICATION must be a duration such as '15m', a dotted path, or None, "
        f"not {value!r:.80}."
    ]


def read_groups(value: Any) -> tuple[frozenset[str] | None, list[str]]:
    """Read the groups of a database; return them with their problems.

    An invalid value admits superusers only.
    """
    if value is None:
        return None, []
    is_list = isinstance(value, list | tuple | set | frozenset)
    if not is_list or not all(isinstance(name, str) and name for name in value):
        return frozenset(), [f"'groups' must be a list of group names, not {value!r:.80}."]
    return frozenset(value), []


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


class _Reader:
    """Reads the keys of a mapping one by one and collects problems."""

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
        # It is used in a header and in a column: one line, and of limited length.
        good = isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable()
        if not good:
            self.problems.append(
                f"{key} must be a one-line string of at most {_LONGEST} characters, "
                f"not {value!r:.80}."
            )
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
            self.problems.append(f"{key} must be longer than zero.")
            return default
        return found

    def read(
        self, key: str, default: Any, how: Callable[[Any], tuple[Any, list[str]]]
    ) -> Any:
        """Read a key with a function that returns its value and its problems."""
        found, problems = how(self.values.pop(key, default))
        self.problems += problems
        return found

    def aliases(self, key: str) -> frozenset[str] | None:
        value = self.values.pop(key, None)
        if value is None:
            return None
        is_list = isinstance(value, list | tuple | set | frozenset)
        if not is_list or any(alias not in list(self.known) for alias in value):
            self.problems.append(
                f"{key} must be a list of aliases in DATABASES, not {value!r}."
            )
            return None
        return frozenset(value)

    def databases(self) -> dict[str, DatabaseSettings]:
        entries = self.values.pop("DATABASES", {})
        if not isinstance(entries, Mapping):
            self.problems.append("DATABASES must be a dict of dicts, keyed by alias.")
            return {}
        found = {}
        for alias, entry in entries.items():
            if alias not in list(self.known):
                self.problems.append(
                    f"DATABASES[{alias!r}]: the project has no such alias."
                )
            elif not isinstance(entry, Mapping):
                self.problems.append(f"DATABASES[{alias!r}] must be a dict.")
            else:
                found[alias] = self._database(alias, entry)
        return found

    def _database(self, alias: str, entry: Mapping[str, Any]) -> DatabaseSettings:
        usual = DatabaseSettings()
        reader = _Reader(entry)
        found = DatabaseSettings(
            direct_alias=reader.text("direct_alias", None),
            lock_timeout=reader.length_of_time("lock_timeout", usual.lock_timeout),
            blocking_budget=reader.length_of_time("blocking_budget", usual.blocking_budget),
            lock_retry_timeout=reader.length_of_time(
                "lock_retry_timeout", usual.lock_retry_timeout
            ),
            allow_terminate_blockers=reader.truth(
                "allow_terminate_blockers", default=usual.allow_terminate_blockers
            ),
            rehearsal_alias=reader.text("rehearsal_alias", None),
            in_place_timeout=reader.length_of_time(
                "in_place_timeout", usual.in_place_timeout
            ),
            groups=reader.read("groups", None, read_groups),
        )
        reader.problems += [
            f"{key!r} is not a valid key. Valid keys: "
            f"{', '.join(setting.name for setting in fields(DatabaseSettings))}."
            for key in reader.values
        ]
        if found.direct_alias == alias or (
            found.direct_alias and found.direct_alias not in self.known
        ):
            reader.problems.append("'direct_alias' must name another alias in DATABASES.")
        on = found.rehearsal_alias
        if on and (on == alias or on not in self.known):
            reader.problems.append(
                "'rehearsal_alias' must name another alias in DATABASES."
            )
        self.problems += [f"DATABASES[{alias!r}]: {text}" for text in reader.problems]
        return found


def read_settings(values: Any) -> RouteSettings:
    """Read MIGRATION_ROUTE; its problems are in `problems`."""
    if not isinstance(values, Mapping):
        return RouteSettings(problems=("MIGRATION_ROUTE must be a dict.",))
    reader = _Reader(values)
    launcher = reader.text("LAUNCHER", "process")
    if launcher not in LAUNCHERS and "." not in launcher:
        reader.problems.append(
            f"LAUNCHER must be {', '.join(LAUNCHERS)} or a dotted path, not {launcher!r}."
        )
    ledger_database = reader.text("LEDGER_DATABASE", "default")
    if ledger_database not in settings.DATABASES:
        reader.problems.append(
            f"LEDGER_DATABASE is {ledger_database!r}, which is not in DATABASES."
        )
    databases = reader.databases()
    reader.problems += _direct_alias_problems(databases, ledger_database)
    result: dict[str, Any] = {
        "launcher": launcher,
        "command": reader.read("COMMAND", None, read_command),
        "ledger_database": ledger_database,
        "heartbeat_timeout": reader.length_of_time(
            "HEARTBEAT_TIMEOUT", timedelta(seconds=15)
        ),
        "max_request_wait": reader.length_of_time(
            "MAX_REQUEST_WAIT", timedelta(seconds=20)
        ),
        "run_lock_timeout": reader.length_of_time(
            "RUN_LOCK_TIMEOUT", timedelta(seconds=60)
        ),
        "tokens": reader.read("TOKENS", (), read_tokens),
        "networks": reader.read("NETWORKS", (), read_networks),
        "oidc": reader.read("OIDC", (), read_issuers),
        "permits": reader.truth("PERMITS", default=True),
        "build": reader.text("BUILD", _build_of_environment()),
        "ready_when_ahead": reader.truth("READY_WHEN_AHEAD", default=True),
        "ready_databases": reader.aliases("READY_DATABASES"),
        "databases": databases,
        "guard_migrate": reader.truth("GUARD_MIGRATE", default=True),
        "guard_migrate_timeout": reader.length_of_time(
            "GUARD_MIGRATE_TIMEOUT", timedelta(seconds=10)
        ),
        "health": reader.read("HEALTH", {}, read_health),
        "freezes": reader.read("FREEZES", (), read_freezes),
        "approvals": reader.read(
            "APPROVALS", None, lambda value: read_approvals(value, list(settings.DATABASES))
        ),
        "windows": reader.read("WINDOWS", (), _windows),
        "task_backend": reader.text("TASK_BACKEND", "default"),
        "task_queue": reader.text("TASK_QUEUE", "default"),
        "webhooks": reader.read("WEBHOOKS", (), read_webhooks),
        "email": reader.read("EMAIL", (), read_mail),
        "reauthentication": reader.read("REAUTHENTICATION", "15m", read_reauthentication),
        "record_error_detail": reader.truth("RECORD_ERROR_DETAIL", default=True),
        "linters": reader.truth("LINTERS", default=True),
    }
    known = {setting.name.upper() for setting in fields(RouteSettings)} - {"PROBLEMS"}
    for key in reader.values:
        reader.problems.append(
            f"{key!r} is not a valid key. Valid keys: {', '.join(sorted(known))}."
        )
    return RouteSettings(**result, problems=tuple(reader.problems))


def _windows(value: Any) -> tuple[Any, list[str]]:
    return read_windows(value, settings.DATABASES)


def _direct_alias_problems(
    databases: Mapping[str, DatabaseSettings], ledger: str
) -> list[str]:
    """Return the problems of direct aliases: each connects straight to one database."""
    problems = []
    for alias, found in databases.items():
        if found.direct_alias is None or found.direct_alias == alias:
            continue
        way = databases.get(found.direct_alias)
        if way is not None and way.direct_alias is not None:
            problems.append(
                f"DATABASES[{alias!r}]: 'direct_alias' must name an alias that has no "
                "direct "
                "alias itself."
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
