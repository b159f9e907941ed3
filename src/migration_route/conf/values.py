"""In what shape are the settings handed out? Frozen values, with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

from migration_route.approvals import ApprovalPolicy
from migration_route.conf.identity import Issuer
from migration_route.conf.telling import Mail, Webhook
from migration_route.health import Freeze, HealthSettings
from migration_route.machines.networks import Networks
from migration_route.machines.tokens import Token
from migration_route.windows import Window

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
