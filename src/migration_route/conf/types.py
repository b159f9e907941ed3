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

    direct_alias: str | None = None  # the alias of a connection that bypasses a pooler
    lock_timeout: timedelta = timedelta(milliseconds=500)  # of a blocking statement
    blocking_budget: timedelta = timedelta(seconds=20)  # others may queue behind a step
    # for the locks of one step, in total
    lock_retry_timeout: timedelta = timedelta(minutes=5)
    allow_terminate_blockers: bool = False  # may users terminate blocking sessions
    rehearsal_alias: str | None = None  # the alias of a database used as the copy
    in_place_timeout: timedelta = timedelta(seconds=5)  # of an in-place rehearsal, in total
    groups: frozenset[GroupName] | None = None  # only their members may access it


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """The validated setting MIGRATION_ROUTE, with its defaults."""

    launcher: str = "process"
    command: tuple[str, ...] = ()  # starts the project's commands; (): the default
    ledger_database: str = "default"
    heartbeat_timeout: timedelta = timedelta(seconds=15)
    max_request_wait: timedelta = timedelta(seconds=20)
    run_lock_timeout: timedelta = timedelta(seconds=60)
    tokens: tuple[Token, ...] = ()
    networks: Networks = field(default_factory=Networks)
    oidc: tuple[Issuer, ...] = ()
    permits: bool = True  # permits for one run can be issued and used
    build: str | None = None
    ready_when_ahead: bool = True
    ready_databases: frozenset[str] | None = None  # checked by `ready`; None: all
    databases: Mapping[str, DatabaseSettings] = field(default_factory=dict)  # by alias
    guard_migrate: bool = True  # `manage.py migrate` takes the lock
    guard_migrate_timeout: timedelta = timedelta(seconds=10)
    # None: no health checks.
    health: HealthSettings | None = field(default_factory=HealthSettings)
    freezes: tuple[Freeze, ...] = ()  # periods in which no run starts
    approvals: ApprovalPolicy | None = None  # which approvals a plan needs
    windows: tuple[Window, ...] = ()  # times of the week in which runs may start
    task_backend: str = "default"  # of TASKS, for the launcher "tasks"
    task_queue: str = "default"
    webhooks: tuple[Webhook, ...] = ()  # recipients by HTTP
    email: tuple[Mail, ...] = ()  # recipients by email
    # Maximum age of a login for a change, or a dotted path that decides; None: off.
    reauthentication: timedelta | str | None = timedelta(minutes=15)
    # Whether events of a run include what the database reports about affected rows.
    record_error_detail: bool = True
    linters: bool = True  # use other linters if installed
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
