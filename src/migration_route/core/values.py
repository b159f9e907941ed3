"""Is now a good moment to change this database? Frozen values; no Django here.

The signals are read by `vendors/`, weighed by `policy/health_gate.py`, and heeded by the
supervisor of a run.

Whose approval does a plan need? The policy as data, and what it demands; no Django.

`conf/policy.py` reads it, `policy/approvals.py` weighs a plan by it, and the row of a
run keeps what was demanded.

Which findings are there, and to which family does each belong? No Django here.

A code never changes its meaning. The folders of `planning/rules/` are the families; what
other engines say has the engine's name before a dot, and that is its family.

What would a statement do to the database? Frozen values; no Django here.

Made by `vendors/`, from the text of the statement and from the catalog as it is. In
doubt the stronger effect is foretold: a reader is never told less than what happens.

When may a run begin? Frozen values; no Django here.

They are read by `conf/policy.py`, and weighed by `policy/schedule.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from enum import StrEnum, unique
from typing import Any
from zoneinfo import ZoneInfo

from migration_route.core.enums import ActorKind, ApprovalDecision, Scope

APPROVE = Scope.APPROVE.value
"""The permission that is meant where a rule names none."""


@unique
class When(StrEnum):
    """When does a rule ask for approval?"""

    ALWAYS = "always"
    FINDINGS = "findings"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule of the setting APPROVALS; None: it does not matter to the rule."""

    number: int = 0  # its place in `rules`, from 1; 0: the one rule for everything
    databases: frozenset[str] | None = None
    actors: frozenset[ActorKind] | None = None
    verbs: frozenset[Scope] | None = None
    findings: frozenset[str] | None = None  # codes, families and severities that count
    when: When = When.ALWAYS
    required: int = 1
    permission: str = APPROVE
    self_approval: bool = False
    lifetime: timedelta = timedelta(hours=24)

    @property
    def name(self) -> str:
        """Return how it is called where people read of it."""
        return f"rule {self.number} of APPROVALS" if self.number else "APPROVALS"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPolicy:
    """The setting APPROVALS: the first rule that fits a plan decides."""

    rules: tuple[Rule, ...] = ()
    problems: tuple[str, ...] = ()  # it cannot be read, and nothing passes

    @property
    def permissions(self) -> frozenset[str]:
        """Return the permissions of the project that it asks for."""
        return frozenset(rule.permission for rule in self.rules) - {APPROVE}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequirement:
    """What a plan needs before it may run."""

    required: int  # people
    permissions: tuple[str, ...] = (APPROVE,)  # each of them needs all of these
    self_approval: bool = False  # may whoever has asked be one of them?
    lifetime: timedelta = timedelta(hours=24)  # of the request
    rule: str  # which rule it was
    why: str  # a clause: "APPROVALS asks for it always"

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return {
            "required": self.required,
            "permissions": list(self.permissions),
            "self_approval": self.self_approval,
            "lifetime": self.lifetime.total_seconds(),
            "rule": self.rule,
            "why": self.why,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ApprovalRequirement:
        """Read what `to_dict` returned."""
        return cls(
            required=stored["required"],
            permissions=tuple(stored["permissions"]),
            self_approval=stored["self_approval"],
            lifetime=timedelta(seconds=stored["lifetime"]),
            rule=stored["rule"],
            why=stored["why"],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorRef:
    """An actor, for the question whether two are the same.

    `key` is what stays when a name changes: the primary key of a user, the account of a
    shell. The name is what people read.
    """

    kind: ActorKind
    name: str = field(compare=False)
    key: str = ""

    def __post_init__(self) -> None:
        if not self.key:
            object.__setattr__(self, "key", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalGiven:
    """What somebody has said of a run that waits for approval."""

    decision: ApprovalDecision
    by: ActorRef
    permissions: frozenset[str]  # those that they had, of those that mattered then
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
            "steps_not_read",
        }
    ),
}

ENGINES = frozenset({"safe_migrations", "squawk"})
"""Other linters whose findings are taken in: `squawk.ban-drop-column`."""

CODES = frozenset[str]().union(*FAMILIES.values())


def is_known(code: str) -> bool:
    """Tell whether there is such a finding; those of other engines have a dot in them."""
    return code in CODES or "." in code


def family_of(code: str) -> str:
    """Return the family of a finding; "" for one that nobody knows."""
    engine, dot, _ = code.partition(".")
    if dot:
        return engine
    return next((name for name, codes in FAMILIES.items() if code in codes), "")


@unique
class Blocked(StrEnum):
    """Who waits for a statement while it holds its lock?"""

    READS = "reads"
    WRITES = "writes"
    SCHEMA_CHANGES = "schema_changes"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLock:
    """A lock that a statement takes on one table."""

    table: str
    mode: str  # in the words of the database
    blocks: frozenset[Blocked] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What one statement would do to the tables that are there before the plan."""

    locks: tuple[TableLock, ...] = ()
    rewrites: tuple[str, ...] = ()  # tables whose every row is written anew
    scans: tuple[str, ...] = ()  # tables that are read from end to end
    algorithm: str = ""  # instant, inplace, copy, rebuild; "" where there is one way
    is_understood: bool = True  # False: the statement was not; the worst is foretold


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """How large a table is now, as the database estimates it."""

    table: str
    rows: int | None  # None: not known
    bytes: int | None  # with indexes and what is stored apart; None: not known


@unique
class SignalState(StrEnum):
    """What a signal says. Unknown does not stop: GitLab's rule for its own gate."""

    NORMAL = "normal"
    STOP = "stop"
    UNKNOWN = "unknown"


@unique
class SignalName(StrEnum):
    """What is looked at."""

    FREEZE = "freeze"
    STANDBY = "standby"
    LONG_TRANSACTION = "long_transaction"
    WRAPAROUND = "wraparound"
    DUMP = "dump"
    LOCK_QUEUE = "lock_queue"
    WRITER = "writer"
    REPLICATION_LAG = "replication_lag"
    ARCHIVE = "archive"
    CONNECTIONS = "connections"
    DISK = "disk"
    INVALID_INDEX = "invalid_index"
    RECORDER_SEQUENCE = "recorder_sequence"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSignal:
    """One thing that was looked at."""

    name: SignalName
    state: SignalState
    reason: str  # one sentence
    facts: Mapping[str, Any] = field(default_factory=dict)  # as JSON can say them
    lacks_forecast: bool = False  # what is rewritten has to be foretold, to be sure

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is stored and told."""
        return {
            "name": self.name.value,
            "state": self.state.value,
            "reason": self.reason,
            "facts": dict(self.facts),
        }


def normal(name: SignalName, reason: str, **facts: Any) -> HealthSignal:
    """Return a signal that is in order."""
    return HealthSignal(name=name, state=SignalState.NORMAL, reason=reason, facts=facts)


def stop(name: SignalName, reason: str, **facts: Any) -> HealthSignal:
    """Return a signal that nothing should begin against."""
    return HealthSignal(name=name, state=SignalState.STOP, reason=reason, facts=facts)


def unknown(name: SignalName, reason: str, **facts: Any) -> HealthSignal:
    """Return a signal that could not be read."""
    return HealthSignal(name=name, state=SignalState.UNKNOWN, reason=reason, facts=facts)


def needs_forecast(name: SignalName, reason: str, **facts: Any) -> HealthSignal:
    """Return a signal that a forecast of what is rewritten would decide."""
    return HealthSignal(
        name=name,
        state=SignalState.UNKNOWN,
        reason=reason,
        facts=facts,
        lacks_forecast=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A time in which nothing is to begin."""

    begins: datetime  # aware
    ends: datetime  # aware; the first moment that is free again
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """From when on a signal stops. Where each default comes from stands in
    `docs/explanation/health.md`."""

    long_transaction: timedelta = timedelta(seconds=60)  # with locks on a touched table
    replication_lag: timedelta = timedelta(seconds=10)  # of the slowest standby
    replication_bytes: int = 256 * 1024 * 1024  # not replayed yet: sixteen segments
    archive_waiting: int = 42  # segments of WAL; GitLab's number
    connections: float = 0.9  # of those that the server admits
    disk: float = 2.0  # free, in sizes of what is rewritten: the copy, and its WAL
    lock_queue: timedelta = timedelta(seconds=5)  # that somebody waits for metadata
    every: timedelta = timedelta(seconds=10)  # between two looks while a run is held
    patience: timedelta = timedelta(hours=1)  # for one good moment
    ignore: frozenset[SignalName] = frozenset()  # shown, and not heeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """What a plan, or one step, has to do with in the database, as far as it can be
    known before it runs."""

    tables: frozenset[str] = frozenset()  # of its models; words of raw SQL
    parents: frozenset[str] = frozenset()  # that its new foreign keys point to
    indexes: frozenset[str] = frozenset()  # by name; words of raw SQL
    expected_invalid: frozenset[str] = frozenset()  # indexes that it drops or makes anew
    waits_for_all: bool = False  # it makes an index concurrently: for every snapshot
    most_rewrites: int | None = (
        None  # of all its tables, by its operations; None: who knows
    )
    rewritten: tuple[str, ...] | None = (
        None  # as often as it is at once; None: not foretold
    )
    unforeseen: bool = False  # some of what it does has no forecast

    @property
    def locked(self) -> tuple[str, ...]:
        """Return the tables on which it may take locks, in order."""
        return tuple(sorted(self.tables | self.parents))

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is said between processes."""
        return {
            "tables": sorted(self.tables),
            "parents": sorted(self.parents),
            "indexes": sorted(self.indexes),
            "expected_invalid": sorted(self.expected_invalid),
            "waits_for_all": self.waits_for_all,
            "most_rewrites": self.most_rewrites,
            "rewritten": None if self.rewritten is None else list(self.rewritten),
            "unforeseen": self.unforeseen,
        }

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Impact:
        """Read what `to_dict` returned; what is not said is not known."""
        rewritten = said.get("rewritten")
        return cls(
            tables=frozenset(said.get("tables", ())),
            parents=frozenset(said.get("parents", ())),
            indexes=frozenset(said.get("indexes", ())),
            expected_invalid=frozenset(said.get("expected_invalid", ())),
            waits_for_all=bool(said.get("waits_for_all", False)),
            most_rewrites=said.get("most_rewrites"),
            rewritten=None if rewritten is None else tuple(rewritten),
            unforeseen=bool(said.get("unforeseen", False)),
        )


NO_IMPACT = Impact(most_rewrites=0)
"""What a run has to do with that only records its steps."""


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
    """A time of the week in which steps may begin, by the clock on one wall."""

    days: frozenset[Day]  # on which it begins; none: it never does
    begins: time
    ends: time  # not behind `begins`: on the day after
    timezone: ZoneInfo
    databases: frozenset[str] | None = None  # None: every database


def windows_of(windows: Iterable[Window], database: str) -> tuple[Window, ...]:
    """Return the windows that bind one database; none: it is open at any time."""
    return tuple(
        window
        for window in windows
        if window.databases is None or database in window.databases
    )
