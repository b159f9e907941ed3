"""The settings as frozen values, with their defaults.

Credentials are excluded from `repr`: secrets, and URLs, which often are a secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum, unique
from typing import TypeAlias

from migration_route.conf.oidc import Issuer
from migration_route.core.credentials import Networks, Token
from migration_route.core.events import DEFAULT_EVENT_TYPES, EventType
from migration_route.core.values import ApprovalPolicy, Freeze, HealthSettings, Window


@unique
class WebhookFormat(StrEnum):
    JSON = "json"
    SLACK = "slack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A recipient of notifications, and the events that it receives."""

    name: str  # key of its messages in the outbox
    events: frozenset[EventType] = DEFAULT_EVENT_TYPES
    databases: frozenset[str] | None = None  # None: all
    timeout: timedelta = timedelta(seconds=10)  # of one attempt in total
    give_up: timedelta = timedelta(hours=24)  # after which a message is not retried


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook(Recipient):
    """A URL that messages are posted to."""

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)  # each one signs, for rotation
    format: WebhookFormat = WebhookFormat.JSON
    insecure: bool = False  # allow http


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail(Recipient):
    """Email addresses that receive messages, sent with the project's own email settings."""

    to: tuple[str, ...]
    sender: str | None = None  # None: DEFAULT_FROM_EMAIL
    subject_prefix: str = "[migrations] "


GroupName: TypeAlias = str
"""The name of a Django group."""


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
    linters: bool = True
    """Whether django-safe-migrations (extra `lint`) and squawk (extra `squawk`), if
    installed, add to the findings of a plan."""
    problems: tuple[str, ...] = field(default=())

    def database(self, alias: str) -> DatabaseSettings:
        """Return the settings of one database."""
        return self.databases.get(alias) or DatabaseSettings()

    @property
    def direct_aliases(self) -> frozenset[str]:
        """Return the aliases that only bypass the pooler of another alias."""
        return frozenset(
            found.direct_alias
            for found in self.databases.values()
            if found.direct_alias is not None
        )
