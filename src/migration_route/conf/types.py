"""In what shape are the settings handed out? Frozen values, with their defaults.

Who is to be told, and of what? The values of WEBHOOKS and MAIL.

What lets somebody post or sign is in no `repr`: not the secret, and not the address, which
often is the secret itself.
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
class Format(StrEnum):
    """In which shape a webhook wants its messages."""

    JSON = "json"
    SLACK = "slack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """Somebody who is told, and of what."""

    name: str  # under which the outbox keeps what is still to be told
    events: frozenset[EventType] = DEFAULT_EVENT_TYPES
    databases: frozenset[str] | None = None  # None: all
    timeout: timedelta = timedelta(seconds=10)  # of one attempt, as a whole
    give_up: timedelta = timedelta(hours=24)  # after which a message is not tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook(Recipient):
    """An address that messages are posted to."""

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)  # each signs: rotation
    format: Format = Format.JSON
    insecure: bool = False  # may the address be http: ?


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail(Recipient):
    """People who get an e-mail, through the project's own mail settings."""

    to: tuple[str, ...]
    sender: str | None = None  # None: DEFAULT_FROM_EMAIL
    subject_prefix: str = "[migrations] "


GroupName: TypeAlias = str
"""The name of a group of people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """How gently, and by which way, one database is migrated."""

    direct: str | None = None  # the alias of a connection that bypasses a pooler
    lock_timeout: timedelta = timedelta(milliseconds=500)  # of a statement that blocks
    stall_budget: timedelta = timedelta(seconds=20)  # for others to queue behind a step
    patience: timedelta = timedelta(minutes=5)  # for the locks of one step, in all
    end_blockers: bool = False  # may a person end the sessions that are in the way?
    rehearse_on: str | None = None  # the alias of a database that takes the copy's place
    in_place_limit: timedelta = timedelta(seconds=5)  # of a rehearsal in place, in all
    groups: frozenset[GroupName] | None = None  # whose members alone may touch it


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteSettings:
    """The setting MIGRATION_ROUTE, checked, with its defaults."""

    launcher: str = "process"
    command: tuple[str, ...] = ()  # that starts the project's commands; (): the default
    ledger_database: str = "default"
    lease: timedelta = timedelta(seconds=15)
    wait: timedelta = timedelta(seconds=20)
    lock_wait: timedelta = timedelta(seconds=60)
    tokens: tuple[Token, ...] = ()
    networks: Networks = field(default_factory=Networks)
    oidc: tuple[Issuer, ...] = ()
    permits: bool = True  # may a host give the right to one run?
    build: str | None = None
    ready_when_ahead: bool = True
    ready_databases: frozenset[str] | None = None  # those that `ready` counts; None: all
    databases: Mapping[str, DatabaseSettings] = field(default_factory=dict)  # by alias
    guard: bool = True  # does a typed `manage.py migrate` take the lock?
    guard_wait: timedelta = timedelta(seconds=10)
    # None: nobody looks.
    health: HealthSettings | None = field(default_factory=HealthSettings)
    freezes: tuple[Freeze, ...] = ()  # times in which nothing is to begin
    approvals: ApprovalPolicy | None = None  # whose approval a plan needs
    windows: tuple[Window, ...] = ()  # times of the week in which runs may begin
    task_backend: str = "default"  # of TASKS, for the launcher "tasks"
    task_queue: str = "default"
    webhooks: tuple[Webhook, ...] = ()  # who is told, by HTTP
    mail: tuple[Mail, ...] = ()  # who is told, by e-mail
    # How old a person's login may be for a change; a dotted path decides itself; None: off.
    reauthenticate: timedelta | str | None = timedelta(minutes=15)
    # Do the events of a run keep what a database says of the rows behind an error?
    record_error_detail: bool = True
    engines: bool = True  # do other linters have a say, where they are installed?
    problems: tuple[str, ...] = field(default=())

    def database(self, alias: str) -> DatabaseSettings:
        """Return what is set for one database."""
        return self.databases.get(alias) or DatabaseSettings()

    @property
    def direct_aliases(self) -> frozenset[str]:
        """Return the aliases that are a second way to a database, not one more."""
        return frozenset(
            found.direct for found in self.databases.values() if found.direct is not None
        )
