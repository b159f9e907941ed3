"""In what shape are the settings handed out? Frozen values, with their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from migration_route.approvals import ApprovalPolicy
from migration_route.health import Freeze, HealthSettings
from migration_route.vocabulary import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A machine's right to ask, known only by the digest of its secret."""

    name: str
    sha256: str
    scopes: frozenset[Scope]
    databases: frozenset[str] | None = None  # None: every database
    expires: date | None = None  # the first day on which it is no longer good


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """How gently, and by which way, one database is migrated."""

    direct: str | None = None  # the alias of a connection that bypasses a pooler
    lock_timeout: timedelta = timedelta(milliseconds=500)  # of a statement that blocks
    stall_budget: timedelta = timedelta(seconds=20)  # for others to queue behind a step
    patience: timedelta = timedelta(minutes=5)  # for the locks of one step, in all
    end_blockers: bool = False  # may a person end the sessions that are in the way?
    rehearse_on: str | None = None  # the alias of a database that takes the copy's place


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
    databases: Mapping[str, DatabaseSettings] = field(default_factory=dict)  # by alias
    guard: bool = True  # does a typed `manage.py migrate` take the lock?
    guard_wait: timedelta = timedelta(seconds=10)
    # None: nobody looks.
    health: HealthSettings | None = field(default_factory=HealthSettings)
    freezes: tuple[Freeze, ...] = ()  # times in which nothing is to begin
    approvals: ApprovalPolicy | None = None  # whose approval a plan needs
    engines: bool = True  # do other linters have a say, where they are installed?
    unsupported: tuple[str, ...] = ()  # guards that are set but not carried yet
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
