"""The settings as frozen values, with their defaults and their readers.

Reading MIGRATION_ROUTE collects all its problems.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

from django.conf import settings

from migration_route.conf.command import read_command
from migration_route.conf.notifications import (
    Mail,
    Recipient,
    Webhook,
    read_mail,
    read_webhooks,
)
from migration_route.conf.oidc import Issuer, read_issuers
from migration_route.conf.policy import (
    read_approvals,
    read_freezes,
    read_health,
    read_windows,
)
from migration_route.core.credentials import Networks, Token, read_networks, read_tokens
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
from migration_route.core.values import ApprovalPolicy, Freeze, HealthSettings, Window

GroupName: TypeAlias = str
"""The name of a Django group."""

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


# Relative paths would depend on the folder in which a process starts.
_exports = reader(
    "a dict from the name of an environment to the absolute path of an exported ledger",
    lambda value: (
        isinstance(value, Mapping)
        and all(is_line(name, _LONGEST) for name in value)
        and all(Path(path).is_absolute() for path in value.values())
    ),
    lambda value: {name: str(path) for name, path in value.items()},
)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """How one database is connected to, locked and rehearsed."""

    direct_alias: str | None = None
    """The alias of a connection that bypasses a transaction pooler. The route takes the
    lock and runs the migrations there."""
    lock_timeout: timedelta = timedelta(milliseconds=500)
    """How long one attempt at a statement that blocks others may wait for its locks."""
    blocking_budget: timedelta = timedelta(seconds=20)
    """How long, in total, other sessions may queue behind one step that waits for its
    locks."""
    lock_retry_timeout: timedelta = timedelta(minutes=5)
    """How long, in total, a step may wait for its locks."""
    allow_terminate_blockers: bool = False
    """Whether a user with the permission `force` may terminate the sessions that block a
    run."""
    rehearsal_alias: str | None = None
    """The alias of a database that exists to be changed. A rehearsal runs on it and makes
    no copy. It must be a different database, and must be at the same state as this one:
    [Rehearse a plan](../how-to/rehearse.md)."""
    in_place_timeout: timedelta = timedelta(seconds=5)
    """How long a rehearsal in place may hold its locks, from its first step to the
    rollback."""
    groups: frozenset[GroupName] | None = None
    """The groups whose members, besides superusers, are the only users who see and change
    this database: [Grant permissions](../how-to/grant-permissions.md). If the value cannot
    be read, only superusers have access."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """The validated setting MIGRATION_ROUTE, with its defaults."""

    launcher: str = "process"
    """Where the process of a run comes from. `"process"`: a detached process with the code
    that is on disk now; it outlives the web worker. `"inline"`: a process that the request
    waits for. `"worker"`: none; `manage.py migration_route worker`, running elsewhere,
    takes the run. `"tasks"`: a task of Django Tasks starts the process. A dotted path: a
    class with `launch(permit, run)`. See [Run workers and task
    queues](../how-to/run-workers-and-task-queues.md)."""
    command: tuple[str, ...] = ()
    """The command line that starts the project's commands in a new process, such as
    `["python", "manage.py"]`. Default: the project's `manage.py` if there is one, else
    `python -m django`. See [below](#command)."""
    ledger_database: str = "default"
    """The alias of the database that stores the ledger."""
    heartbeat_timeout: timedelta = timedelta(seconds=15)
    """How long a run can go without a heartbeat before the next process that reads it
    examines it. The supervisor sends three heartbeats in this time. Times are those of the
    ledger's database; SQLite uses the clock of the host."""
    max_request_wait: timedelta = timedelta(seconds=20)
    """The longest time that a request waits for a run to end (`Prefer: wait`,
    `perform_migration`), and the longest event stream. Keep it below the `timeout` of
    gunicorn's sync workers, 30 seconds by default."""
    run_lock_timeout: timedelta = timedelta(seconds=60)
    """How long a run waits for the lock of its database before it ends as `failed`. Also
    how long the first write waits to install the ledger."""
    tokens: tuple[Token, ...] = ()
    """API tokens and their scopes: see [below](#the-entries-of-tokens)."""
    networks: Networks = field(default_factory=Networks)
    """The networks that requests may come from: see [below](#networks)."""
    oidc: tuple[Issuer, ...] = ()
    """The issuers whose identity tokens are accepted, and their scopes: see
    [below](#the-entries-of-oidc)."""
    permits: bool = True
    """Whether [permits](../how-to/emergency-access.md#with-a-permit) can be issued and
    redeemed. Anyone who has `SECRET_KEY` can sign one."""
    build: str | None = None
    """The name of the running code, for the header `Migration-Route-Build` and for
    fingerprints. It must change whenever the migrations change. Default: see
    [below](#default-of-build)."""
    environment: str = ""
    """The name of this environment, such as `"production"`: the pages show it beside their
    title, so that two windows cannot be confused."""
    ready_when_ahead: bool = True
    """Whether `GET ready` answers 200 if the database has applied migrations that this code
    does not have, as an old process sees after a deploy."""
    ready_databases: frozenset[str] | None = None
    """The databases that `GET ready` checks. Default: every alias. An alias that is never
    migrated would keep the answer at 503."""
    databases: Mapping[str, DatabaseSettings] = field(default_factory=dict)
    """Connection, lock and access settings per database: see [below](#a-database)."""
    guard_migrate: bool = True
    """Whether `manage.py migrate`, run by hand, takes the same lock as a run and is
    recorded in the ledger."""
    guard_migrate_timeout: timedelta = timedelta(seconds=10)
    """How long such a command waits for the lock before it refuses."""
    health: HealthSettings | None = field(default_factory=HealthSettings)
    """The thresholds at which the state of a database pauses a run: see [below](#health).
    `None` turns the health checks off."""
    freezes: tuple[Freeze, ...] = ()
    """Periods in which no step starts: see [below](#the-entries-of-freezes)."""
    approvals: ApprovalPolicy | None = None
    """Which plans need approval before they run: see [below](#approvals)."""
    windows: tuple[Window, ...] = ()
    """Times at which steps may start: see [below](#the-entries-of-windows). Default: any
    time."""
    task_backend: str = "default"
    """The key of `TASKS` whose backend the launcher `"tasks"` uses."""
    task_queue: str = "default"
    """The queue of that backend."""
    webhooks: tuple[Webhook, ...] = ()
    """Who is notified by HTTP: see [below](#the-entries-of-webhooks)."""
    email: tuple[Mail, ...] = ()
    """Who is notified by email: see [below](#email)."""
    reauthentication: timedelta | str | None = timedelta(minutes=15)
    """How old a user's login may be for a request that changes something, or the dotted
    path of a callable that decides: see [Require
    reauthentication](../how-to/require-reauthentication.md). A value that cannot be read is
    treated as the default."""
    record_error_detail: bool = True
    """Whether the events of a run, for those who may read them, keep what the database says
    about the rows behind an error: PostgreSQL's `DETAIL` and `CONTEXT`, the value of a
    duplicate entry. Runs, ledger entries, messages and email never contain it."""
    durations: Mapping[str, str] = field(default_factory=dict)
    """The exported ledgers of other environments, from a name to an absolute path:
    `{"staging": "/srv/staging.jsonl"}`. Plans are estimated by their runs and rehearsals as
    well. A file that cannot be read is logged and ignored."""
    linters: bool = True
    """Whether django-safe-migrations (extra `lint`) and squawk (extra `squawk`), if
    installed, add to the findings of a plan."""
    problems: tuple[str, ...] = field(default=())

    def database(self, alias: str) -> DatabaseSettings:
        return self.databases.get(alias) or DatabaseSettings()

    @property
    def direct_aliases(self) -> frozenset[str]:
        """Return the aliases that only bypass the pooler of another alias."""
        return frozenset(
            found.direct_alias
            for found in self.databases.values()
            if found.direct_alias is not None
        )

    @property
    def recipients(self) -> tuple[Recipient, ...]:
        return (*self.webhooks, *self.email)


# Sorted, as the problem of an unknown key lists them.
_KEYS = {
    "APPROVALS": optional(read_approvals),
    "BUILD": _build,
    "COMMAND": optional(read_command),
    "DATABASES": _databases,
    "DURATIONS": optional(_exports),
    "EMAIL": read_mail,
    "ENVIRONMENT": _line,
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
