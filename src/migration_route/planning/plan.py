"""Frozen values for plans, their phases and fingerprints, and the status of databases. Free
of Django.

A fingerprint names a plan, so that exactly this plan is approved and carried out. It reads
`CODE-PLACE-PLAN`. PLAN is the digest of what would be done, and from which state: it alone
decides whether two plans are the same. CODE and PLACE are short digests of the build that
made the plan and of the files that it was made from: where two plans differ, they show
whether the code did.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from migration_route.core.canonical_json import digest
from migration_route.core.enums import Direction, Mode, Phase, Severity
from migration_route.core.errors import InvalidRequest, RouteError
from migration_route.core.values import Forecast, TableSize

COMPUTED = "computed"
"""The source of a phase that is not declared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPhase:
    """The side of a deploy on which a step belongs, and why."""

    phase: Phase = Phase.ANY
    source: str = COMPUTED  # or what declares it: phase, safe, stage, _contract
    why: str = ""  # one sentence
    behind: tuple[str, ...] = ()  # steps after the deploy that it depends on
    is_mixed: bool = False  # it has operations for both sides
    unsafe: str = ""  # why neither side is safe; "" where one is
    delay: int = 0  # seconds to wait after it was first deferred
    not_understood: str = ""  # a declared value that is not a phase

    @property
    def waits_for(self) -> str:
        """Return the step because of which it comes after the deploy; "" for none."""
        is_after = self.phase is Phase.AFTER_DEPLOY
        return self.behind[0] if self.behind and not is_after else ""

    @property
    def carried_out(self) -> Phase:
        """Return the phase in which it is carried out: before or after the deploy."""
        is_after = self.phase is Phase.AFTER_DEPLOY or self.waits_for
        return Phase.AFTER_DEPLOY if is_after else Phase.BEFORE_DEPLOY

    @property
    def is_required(self) -> bool:
        """Return whether the new release needs it."""
        return self.phase is Phase.BEFORE_DEPLOY or (
            self.phase is Phase.ANY and not self.waits_for
        )

    @property
    def is_ambiguous(self) -> bool:
        """Return whether it belongs before the deploy but depends on a step after it."""
        return self.phase is Phase.BEFORE_DEPLOY and bool(self.waits_for)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """A step that a plan of one phase leaves out because it comes later."""

    app: str
    name: str
    phase: StepPhase
    digest: str = ""  # SHA-256 of the migration's source
    why: str = ""  # why this plan leaves it out
    since: str = ""  # when a run first deferred it; "": none has
    by: str = ""  # the build that deferred it
    overdue: bool = False  # that build is no longer running

    @property
    def label(self) -> str:
        return f"{self.app}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    database: str = "default"
    targets: tuple[str, ...] = ()  # "app", "app.name" or "app.zero"; none: everything
    mode: Mode = Mode.APPLY
    phase: Phase | None = None  # before or after the deploy; None: everything


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    after: int = 0  # skip this many steps
    budget: float = 2.0  # seconds; at least one step is included


DEFAULT_DETAILS = Details()
"""The details of a request that asks for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    description: str
    opaque: bool  # its SQL cannot be known before it runs
    sql: tuple[str, ...] | None = None  # None: not requested, or not known
    forecasts: tuple[Forecast, ...] | None = None  # one for each statement of `sql`


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The expected duration of a step, and the earlier run or rehearsal of the same step
    that it is derived from."""

    ms: int
    run: str  # the id of that run; "": it was a rehearsal
    database: str
    at: str  # ISO 8601 in UTC: when it was requested
    rehearsal: str = ""  # the id of that rehearsal
    environment: str = ""  # whose export contains it; "": this ledger
    rows: int | None = None  # of the tables that the step changes; None: not known
    observed_ms: int | None = None  # the duration of that time
    observed_rows: int | None = None  # of the tables at that time


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    app: str
    name: str
    direction: Direction
    digest: str  # SHA-256 of the migration's source
    atomic: bool  # it requests one transaction around it
    reversible: bool  # every operation is reversible
    rolls_back: bool  # on failure the database rolls back the whole step
    replaces: tuple[str, ...] = ()  # the migrations that a squashed one replaces
    operations: tuple[Operation, ...] = ()
    phase: StepPhase = field(default_factory=StepPhase)
    estimate: Estimate | None = None  # None: not recorded, or not requested

    @property
    def label(self) -> str:
        return f"{self.app}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that a reader of the plan should know."""

    code: str
    severity: Severity
    message: str
    hint: str = ""
    step: str | None = None  # "app.name"; None: the whole plan
    operation: int | None = None  # its position in the step, from 0; None: the whole step
    accepted: str = ""  # the reason why the migration accepts it


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The ordered steps that would bring a database to a requested state."""

    database: str
    vendor: str
    direction: Direction
    mode: Mode
    targets: tuple[str, ...]  # resolved: "app.name", "app.zero"
    transactional_ddl: bool
    steps: tuple[Step, ...]
    fingerprint: str
    build: str
    findings: tuple[Finding, ...] = field(default=())
    phase: Phase | None = None  # as requested
    deferred: tuple[Deferred, ...] = field(default=())  # steps that this phase leaves out
    tables: tuple[TableSize, ...] = field(default=())  # that its statements touch
    details_next: int | None = None  # the `after` of the next request; None: there is none

    @property
    def expected_ms(self) -> int | None:
        """Return the sum of the estimates of the steps; None: there is none."""
        known = [step.estimate.ms for step in self.steps if step.estimate is not None]
        return sum(known) if known else None

    @property
    def expected_unknown(self) -> int:
        """Return the number of steps without an estimate."""
        return sum(step.estimate is None for step in self.steps)

    def with_details(
        self,
        *,
        steps: tuple[Step, ...] | None = None,
        findings: tuple[Finding, ...] = (),
        tables: tuple[TableSize, ...] = (),
        details_next: int | None = None,
    ) -> Plan:
        """Return the same plan with more details; its fingerprint does not change."""
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
    """Return the fingerprint of a plan; `place` is the result of `sources.place`.

    `left_out`: app, name and source digest of the steps that a plan of one phase leaves
    out.
    """
    plan = _digest_of_plan(
        database,
        tuple(targets),
        direction,
        mode,
        tuple((step.app, step.name, step.direction, step.digest) for step in steps),
        frozenset(applied),  # the same object if it is one, whose hash is cached
        phase,
        tuple(left_out),
    )
    return f"{digest(build)[:_CODE_LENGTH]}-{digest(place)[:_PLACE_LENGTH]}-{plan}"


@lru_cache(maxsize=64)
def _digest_of_plan(
    database: str,
    targets: tuple[str, ...],
    direction: Direction,
    mode: Mode,
    steps: tuple[tuple[str, str, Direction, str], ...],
    applied: frozenset[tuple[str, str]],
    phase: Phase | None,
    left_out: tuple[tuple[str, str, str], ...],
) -> str:
    words = {
        "database": database,
        "targets": list(targets),
        "direction": direction,
        "mode": mode,
        "steps": [list(step) for step in steps],
        "applied": sorted(list(key) for key in applied),
    }
    if phase is not None:
        words["phase"] = phase
        words["left_out"] = [list(step) for step in left_out]
    return digest(words)


def require_well_formed(fingerprint: str) -> None:
    """Raise `InvalidRequest` for text that cannot be a fingerprint; empty text is left to
    the caller."""
    if fingerprint and _SHAPE.fullmatch(fingerprint) is None:
        raise InvalidRequest(
            f"{fingerprint[:120]!r} is not a fingerprint. A fingerprint has three parts, "
            "CODE-PLACE-PLAN.",
            hint="Copy the whole fingerprint of the plan.",
        )


def same_plan(left: str, right: str) -> bool:
    """Return whether two fingerprints name the same plan, whichever build made it."""
    return left.rpartition("-")[2] == right.rpartition("-")[2]


def same_code(left: str, right: str) -> bool:
    """Return whether two fingerprints come from the same build, or from the same files.

    Every process reads the files as they are now. So two processes that read the same files
    do not differ in code, even if the files were edited before the second one started.
    """
    one, other = (fingerprint.split("-") for fingerprint in (left, right))
    if len(one) != 3 or len(other) != 3:
        return False
    return one[0] == other[0] or one[1] == other[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseStatus:
    """The current status of one database; `None` means not known."""

    database: str
    vendor: str
    reachable: bool
    pending: tuple[str, ...] | None = None  # "app.name", in the order of their plan
    required: tuple[str, ...] | None = None  # the pending ones that this code needs now
    later: tuple[Deferred, ...] = ()  # the other pending ones, which come after the deploy
    applied: int | None = None
    ahead: tuple[str, ...] = ()  # recorded for apps of this code, but missing from it
    active_run: str | None = None  # the id of the run that owns the database
    active_state: str = ""  # the state of that run
    active_waits_for: str = ""  # why it waits; "" where it does not
    active_until: str = ""
    unresolved_run: str | None = None
    ledger_installed: bool = False
    problem: RouteError | None = None
