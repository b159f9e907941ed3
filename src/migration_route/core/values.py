"""Frozen values for approvals, findings, forecasts, health and schedules.

`conf/` reads the settings among them, `vendors/` produces forecasts and health signals, and
`policy/` decides by them. Where a forecast is uncertain, it states the stronger effect. A
code of a finding never changes its meaning; findings of other linters have the linter's
name before a dot, which is their family. This module does not import Django.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import StrEnum, unique
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from migration_route.core.canonical_json import JsonValue
from migration_route.core.enums import ActorKind, ApprovalDecision, Scope

APPROVE = Scope.APPROVE.value
"""The permission that a rule requires when it names none."""


@unique
class When(StrEnum):
    """When a rule requires approval."""

    ALWAYS = "always"
    FINDINGS = "findings"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the setting APPROVALS; None means that the rule ignores that property."""

    number: int = 0  # its position in `rules`, from 1; 0: the only rule, for everything
    databases: frozenset[str] | None = None
    """A list of aliases. Default: every database."""
    actors: frozenset[ActorKind] | None = None
    """Who requests the run: `"token"`, `"user"`, `"command"` (`manage.py migration_route`
    on a host). Default: any."""
    verbs: frozenset[Scope] | None = None
    """What the plan does: `"apply"`, `"reverse"` (it goes backwards), `"fake"` (also
    `fake_initial`). A plan that does two of them, such as a faked reversal, matches a rule
    that always requires approval if the rule names one of them, and a rule that may waive
    it only if the rule names both. Default: any."""
    findings: frozenset[str] | None = None
    """Which findings count. With `"when": "always"`, the rule matches only plans that have
    one. Not allowed with `"never"`: a finding never makes a plan harmless. Default, with
    `"findings"`: those of severity `warning` or `blocking`."""
    when: When = When.ALWAYS
    """`"always"`: approval is needed. `"findings"`: approval is needed only if a finding
    counts. `"never"`: approval is not needed."""
    required: int = 1
    """How many people must approve, from 1 to 20."""
    permission: str = APPROVE
    """The permission that each of them needs: `"approve"`, the route's own, or a permission
    of the project such as `"shop.approve_migrations"`."""
    self_approval: bool = False
    """Whether the requester may be one of them. A machine never can be."""
    lifetime: timedelta = timedelta(hours=24)
    """How long after the request it expires. At most a year."""

    @property
    def name(self) -> str:
        """Return the name of the rule in messages."""
        return f"rule {self.number} of APPROVALS" if self.number else "APPROVALS"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPolicy:
    """The setting APPROVALS: the first rule that matches a plan decides."""

    rules: tuple[Rule, ...] = ()
    problems: tuple[str, ...] = ()  # errors in the setting; with any, nothing is allowed

    @property
    def permissions(self) -> frozenset[str]:
        """Return the permissions of the project that the rules require."""
        return frozenset(rule.permission for rule in self.rules) - {APPROVE}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequirement(JsonValue):
    """The approvals that a plan needs before it may run."""

    required: int  # number of users
    permissions: tuple[str, ...] = (APPROVE,)  # each of them needs all of these
    self_approval: bool = False  # whether the requester counts
    lifetime: timedelta = timedelta(hours=24)  # of the request for approval
    rule: str  # the name of the rule
    why: str  # a clause: "APPROVALS always requires it"

    def to_dict(self) -> dict[str, Any]:
        """Return the stored form, with the lifetime in seconds."""
        plain = JsonValue.to_dict(self)
        return {**plain, "lifetime": self.lifetime.total_seconds()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ApprovalRequirement:
        lifetime = timedelta(seconds=stored["lifetime"])
        return msgspec.convert({**stored, "lifetime": lifetime}, cls)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorRef:
    """An actor, compared by `key` and `kind`.

    `key` stays the same when a name changes: the primary key of a user, the account of a
    shell. `name` is for display.
    """

    kind: ActorKind
    name: str = field(compare=False)
    key: str = ""

    def __post_init__(self) -> None:
        if not self.key:
            object.__setattr__(self, "key", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDecision:
    """One user's decision about a run that waits for approval."""

    decision: ApprovalDecision
    by: ActorRef
    permissions: frozenset[str]  # of those required at that time, the ones the user had
    reason: str = ""
    at: str = ""


FAMILIES: Mapping[str, frozenset[str]] = {
    "acceptance": frozenset({"bad_acceptance"}),
    "blocking": frozenset(
        {
            "index_blocks_writes",
            "locks_parent",
            "not_null_scans",
            "rewrites_table",
            "scans_table",
            "validates_under_lock",
        }
    ),
    "data_dependent": frozenset(
        {"adds_check", "adds_reference", "adds_unique", "forbids_null"}
    ),
    "destructive": frozenset(
        {"drops_column", "drops_rows", "drops_table", "narrows_column"}
    ),
    "incompatible": frozenset(
        {"adds_required_column", "changes_type", "renames_column", "renames_table"}
    ),
    "irreversible": frozenset({"backwards", "irreversible", "one_way"}),
    "mixed": frozenset({"mixes_data_and_schema"}),
    "non_atomic": frozenset(
        {
            "concurrent_with_others",
            "ddl_commits",
            "not_atomic",
            "several_operations",
            "unprotected_python",
        }
    ),
    "phases": frozenset(
        {
            "before_deploy_pending",
            "mixed_phases",
            "no_safe_phase",
            "overdue",
            "phase_ambiguous",
            "phase_not_understood",
        }
    ),
    "python": frozenset({"forgets_alias", "imports_models"}),
    "surroundings": frozenset(
        {
            "invalid_index",
            "models_changed",
            "other_database",
            "recorder_sequence_behind",
            "sql_differs",
            "steps_not_read",
        }
    ),
}

LINTERS = frozenset({"safe_migrations", "squawk"})
"""Linters whose findings are included: `squawk.ban-drop-column`."""

CODES = frozenset[str]().union(*FAMILIES.values())


def is_known(code: str) -> bool:
    """Return whether a finding with this code exists; those of linters have a dot in
    them."""
    return code in CODES or "." in code


def family_of(code: str) -> str:
    """Return the family of a finding; "" for an unknown code."""
    engine, dot, _ = code.partition(".")
    if dot:
        return engine
    return next((name for name, codes in FAMILIES.items() if code in codes), "")


@unique
class Blocked(StrEnum):
    """What a lock blocks in other sessions."""

    READS = "reads"
    WRITES = "writes"
    SCHEMA_CHANGES = "schema_changes"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLock:
    """A lock that a statement takes on one table."""

    table: str
    mode: str  # the database's name for it
    blocks: frozenset[Blocked] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """The effect of one statement on the tables that exist before the plan."""

    locks: tuple[TableLock, ...] = ()
    rewrites: tuple[str, ...] = ()  # tables whose rows are all rewritten
    scans: tuple[str, ...] = ()  # tables that are read in full
    algorithm: str = ""  # instant, inplace, copy, rebuild; "" where there is only one
    is_understood: bool = True  # False: the worst case is assumed


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """The current size of a table, as the database estimates it."""

    table: str
    rows: int | None  # None: not known
    bytes: int | None  # with indexes and out-of-line storage; None: not known


@unique
class SignalState(StrEnum):
    """The state of a signal. An unknown signal does not stop a run, as in GitLab's own
    check."""

    NORMAL = "normal"
    STOP = "stop"
    UNKNOWN = "unknown"


@unique
class SignalName(StrEnum):
    FREEZE = "freeze"
    """A period of `FREEZES` is in effect."""
    STANDBY = "standby"
    """The server accepts no changes: a PostgreSQL standby, or `read_only` on MySQL and
    MariaDB."""
    LONG_TRANSACTION = "long_transaction"
    """A transaction has used a touched table for too long. Prepared transactions count."""
    WRAPAROUND = "wraparound"
    """PostgreSQL: an autovacuum "to prevent wraparound" is running on a touched table. It
    does not yield to other sessions."""
    DUMP = "dump"
    """`pg_dump` or `mysqldump` is reading this database, or a session has locked as many
    tables."""
    LOCK_QUEUE = "lock_queue"
    """MySQL, MariaDB: a session is waiting for a table's metadata lock."""
    WRITER = "writer"
    """SQLite: another connection has been writing for more than 1.5 seconds."""
    REPLICATION_LAG = "replication_lag"
    """Standbys are behind. On a replica of MySQL or MariaDB: the replica itself is
    behind."""
    ARCHIVE = "archive"
    """PostgreSQL: the archiver is failing or falling behind."""
    CONNECTIONS = "connections"
    """More than the configured share of the allowed connections is in use."""
    DISK = "disk"
    """There is not enough room for a copy of what is rewritten. Known for SQLite, and for a
    server on the same host."""
    INVALID_INDEX = "invalid_index"
    """PostgreSQL: an index of a touched table is invalid."""
    RECORDER_SEQUENCE = "recorder_sequence"
    """PostgreSQL: the next ID of `django_migrations` is already taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSignal:
    """The result of one health check."""

    name: SignalName
    state: SignalState
    reason: str  # one sentence
    facts: Mapping[str, Any] = field(default_factory=dict)  # JSON values
    lacks_forecast: bool = False  # only a forecast of the rewrites would decide it

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name.value,
            "state": self.state.value,
            "reason": self.reason,
            "facts": dict(self.facts),
        }


def normal_signal(name: SignalName, reason: str, **facts: Any) -> HealthSignal:
    return HealthSignal(name=name, state=SignalState.NORMAL, reason=reason, facts=facts)


def stop_signal(name: SignalName, reason: str, **facts: Any) -> HealthSignal:
    """Return a signal that prevents steps from starting."""
    return HealthSignal(name=name, state=SignalState.STOP, reason=reason, facts=facts)


def unknown_signal(name: SignalName, reason: str, **facts: Any) -> HealthSignal:
    """Return a signal that could not be read."""
    return HealthSignal(name=name, state=SignalState.UNKNOWN, reason=reason, facts=facts)


def needs_forecast(name: SignalName, reason: str, **facts: Any) -> HealthSignal:
    """Return an unknown signal that a forecast of the rewrites would decide."""
    return HealthSignal(
        name=name,
        state=SignalState.UNKNOWN,
        reason=reason,
        facts=facts,
        lacks_forecast=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A period in which nothing may start."""

    begins: datetime  # aware
    ends: datetime  # aware; exclusive
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """The thresholds at which a signal stops a run. `docs/explanation/health.md` has the
    source of each default."""

    long_transaction: timedelta = timedelta(seconds=60)
    """The age at which a transaction with locks on a table that the step touches stops the
    run. If the step builds an index concurrently, this applies to any transaction with a
    snapshot."""
    replication_lag: timedelta = timedelta(seconds=10)
    """How far the slowest standby may be behind."""
    replication_bytes: int = 256 * 1024 * 1024  # sixteen WAL segments
    """How much WAL the slowest standby may still have to replay. The only measure of a
    standby that has stopped replaying."""
    archive_waiting: int = 42  # GitLab's number
    """How many WAL segments may wait for the archive."""
    connections: float = 0.9
    """The share of the allowed connections that may be in use."""
    disk: float = 2.0
    """How much disk space must be free, as a multiple of the size of the tables that the
    step rewrites."""
    lock_queue: timedelta = timedelta(seconds=5)
    """How long a session may have waited for a table's metadata lock, on MySQL and
    MariaDB."""
    check_interval: timedelta = timedelta(seconds=10)
    """The time between two checks while a run is paused."""
    max_wait: timedelta = timedelta(hours=1)
    """How long a run waits for the signals to clear before it ends as `failed` with the
    outcome `health`."""
    ignore: frozenset[SignalName] = frozenset()
    """Signals that are shown but do not stop a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact(JsonValue):
    """What a plan or a step affects in the database, as far as it is known before it
    runs."""

    tables: frozenset[str] = frozenset()  # of its models; all words of raw SQL
    parents: frozenset[str] = frozenset()  # that its new foreign keys reference
    indexes: frozenset[str] = frozenset()  # by name; all words of raw SQL
    expected_invalid: frozenset[str] = frozenset()  # indexes that it drops or rebuilds
    waits_for_all: bool = False  # for every snapshot: it builds an index concurrently
    # The most rewrites of all its tables, by its operations; None: not known.
    most_rewrites: int | None = None
    # Each table as often as copies of it exist at once; None: no forecast.
    rewritten: tuple[str, ...] | None = None
    unforecast: bool = False  # some of its operations have no forecast

    @property
    def locked(self) -> tuple[str, ...]:
        """Return the tables that it may lock, sorted."""
        return tuple(sorted(self.tables | self.parents))

    def to_dict(self) -> dict[str, Any]:
        """Return the form that is passed between processes, with its sets in order."""
        plain: dict[str, Any] = msgspec.to_builtins(self, order="deterministic")
        return plain


NO_IMPACT = Impact(most_rewrites=0)
"""The impact of a run that only records its steps."""


@unique
class Day(StrEnum):
    """The days of a week, in the order of `datetime.weekday`."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A weekly period in which steps may start, in local time."""

    days: frozenset[Day]  # on which it starts; empty: it never starts
    begins: time
    ends: time  # not after `begins`: on the next day
    timezone: ZoneInfo
    databases: frozenset[str] | None = None  # None: every database


def windows_of(windows: Iterable[Window], database: str) -> tuple[Window, ...]:
    """Return the windows that apply to one database; without any, it is always open."""
    return tuple(
        window
        for window in windows
        if window.databases is None or database in window.databases
    )
