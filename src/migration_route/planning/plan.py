"""What is a plan? Frozen values; no Django here.

What names a plan, so that exactly this one is approved and carried out?

A fingerprint reads `CODE-PLACE-PLAN`. PLAN is the digest of what would be done and from
which state: only it decides whether two plans are the same. CODE and PLACE are short
digests of the build that read the plan and of the files that it was read from: where two
plans differ, they tell whether the code did. No Django.

How does a database stand, compared with this code?
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from migration_route.core.canonical_json import digest
from migration_route.core.enums import Direction, Mode, Phase, Severity
from migration_route.core.errors import InvalidRequest, RouteError
from migration_route.core.values import Forecast, TableSize
from migration_route.planning.phases.types import Deferred, StepPhase


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


_CODE_LENGTH = 12
_PLACE_LENGTH = 8
_SHAPE = re.compile(r"[0-9A-Za-z]+-[0-9A-Za-z]+-[0-9A-Za-z]+")


def fingerprint_of(
    *,
    database: str,
    targets: Iterable[str],
    direction: Direction,
    mode: Mode,
    steps: Iterable[Step],
    applied: Iterable[tuple[str, str]],
    build: str,
    place: str,
    phase: Phase | None = None,
    left_out: Iterable[tuple[str, str, str]] = (),
) -> str:
    """Return the fingerprint of a plan; `place` as `sources.place` names it.

    `left_out`: app, name and source digest of what a plan of one phase leaves out.
    """
    words = {
        "database": database,
        "targets": list(targets),
        "direction": direction,
        "mode": mode,
        "steps": [[step.app, step.name, step.direction, step.digest] for step in steps],
        "applied": sorted(list(key) for key in set(applied)),
    }
    if phase is not None:
        words["phase"] = phase
        words["left_out"] = [list(step) for step in left_out]
    plan = digest(words)
    return f"{digest(build)[:_CODE_LENGTH]}-{digest(place)[:_PLACE_LENGTH]}-{plan}"


def require_well_formed(fingerprint: str) -> None:
    """Raise `InvalidRequest` for text that cannot be the fingerprint of any plan; none at
    all is left to the caller."""
    if fingerprint and _SHAPE.fullmatch(fingerprint) is None:
        raise InvalidRequest(
            f"{fingerprint[:120]!r} is not a fingerprint: it has three parts, "
            "CODE-PLACE-PLAN.",
            hint="Copy the fingerprint of the plan as a whole.",
        )


def same_plan(left: str, right: str) -> bool:
    """Tell whether two fingerprints name the same plan, whichever build read it."""
    return left.rpartition("-")[2] == right.rpartition("-")[2]


def same_code(left: str, right: str) -> bool:
    """Tell whether two fingerprints were read by the same build, or from the same files.

    Every process answers for the files as they are now. So two that read the same ones
    do not differ in code, even if they were edited before the second one started.
    """
    one, other = (fingerprint.split("-") for fingerprint in (left, right))
    if len(one) != 3 or len(other) != 3:
        return False
    return one[0] == other[0] or one[1] == other[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseStatus:
    """What is known of one database right now; `None` where it cannot be known."""

    database: str
    vendor: str
    reachable: bool
    pending: tuple[str, ...] | None = None  # "app.name", in the order of their plan
    required: tuple[str, ...] | None = None  # those of them that this code needs now
    later: tuple[Deferred, ...] = ()  # the others: they come after the deploy
    applied: int | None = None
    ahead: tuple[str, ...] = ()  # recorded for apps of this code, but not in it
    active_run: str | None = None  # the id of the run that owns it
    active_state: str = ""  # and the state of that run
    active_waits_for: str = ""  # the reason why it waits; "" where it does not
    active_until: str = ""
    unresolved_run: str | None = None
    ledger_installed: bool = False
    problem: RouteError | None = None
