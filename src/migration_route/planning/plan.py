"""What is a plan? Frozen values; no Django here."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from migration_route.forecast import Forecast, TableSize
from migration_route.planning.phases.values import Deferred, StepPhase
from migration_route.vocabulary import Direction, Mode, Phase, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """Which plan is wanted."""

    database: str = "default"
    targets: tuple[str, ...] = ()  # "app", "app.name" or "app.zero"; none: everything
    mode: Mode = Mode.APPLY
    phase: Phase | None = None  # before or after the deploy; None: everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """How much of what can be known of a plan's steps is to be told."""

    after: int = 0  # of the steps behind so many
    budget: float = 2.0  # seconds; at least one step is told


AT_FIRST = Details()
"""What a reader is told who has not asked for more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of a step."""

    description: str
    opaque: bool  # its SQL cannot be known before it runs
    sql: tuple[str, ...] | None = None  # None: not asked for, or not known
    forecasts: tuple[Forecast, ...] | None = None  # one for each statement of `sql`


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """How long the same step took before: on some database, at some time."""

    ms: int
    run: str
    database: str
    at: str  # ISO 8601 in UTC: when that run was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One migration, forwards or backwards."""

    app: str
    name: str
    direction: Direction
    digest: str  # SHA-256 of the migration's source
    atomic: bool  # it asks for one transaction around it
    reversible: bool  # every operation can be undone
    rolls_back: bool  # the database undoes it as a whole when it fails
    replaces: tuple[str, ...] = ()  # what a squashed migration stands for
    operations: tuple[Operation, ...] = ()
    phase: StepPhase = field(default_factory=StepPhase)
    estimate: Estimate | None = None  # None: it is not on record, or was not asked for

    @property
    def label(self) -> str:
        """Return "app.name"."""
        return f"{self.app}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a reader of the plan should know."""

    code: str
    severity: Severity
    message: str
    hint: str = ""
    step: str | None = None  # "app.name"; None: the plan as a whole
    operation: int | None = None  # its place in the step, from 0; None: the step as a whole
    accepted: str = ""  # why the migration itself says that this is all right


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The ordered steps that would bring a database to a wanted state."""

    database: str
    vendor: str
    direction: Direction
    mode: Mode
    targets: tuple[str, ...]  # as they were resolved: "app.name", "app.zero"
    transactional_ddl: bool
    steps: tuple[Step, ...]
    fingerprint: str
    build: str
    findings: tuple[Finding, ...] = field(default=())
    phase: Phase | None = None  # the one that was asked for
    deferred: tuple[Deferred, ...] = field(default=())  # what that phase leaves out
    tables: tuple[TableSize, ...] = field(default=())  # those that its statements touch
    details_next: int | None = None  # after how many steps to ask for more; None: no more

    def with_details(
        self,
        *,
        steps: tuple[Step, ...] | None = None,
        findings: tuple[Finding, ...] = (),
        tables: tuple[TableSize, ...] = (),
        details_next: int | None = None,
    ) -> Plan:
        """Return the same plan, telling more; its fingerprint does not change."""
        return replace(
            self,
            steps=self.steps if steps is None else steps,
            findings=(*self.findings, *findings),
            tables=(*self.tables, *tables),
            details_next=self.details_next if details_next is None else details_next,
        )
