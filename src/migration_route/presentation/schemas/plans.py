"""How is a plan answered with?

How is it answered whose approval a plan needs, and who has given it?

How does a forecast look on the wire?

How does it look on the wire whether now is a good moment?

How is it answered when a run may begin?
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from migration_route.presentation.schemas.base import Answer


class DemandAnswer(Answer, frozen=True, kw_only=True):
    """What a plan needs before it may run: so many people who have each of these
    permissions (`approve`: the right of the route), within so many seconds of the
    request. Without `self_approval`, whoever asks is none of them."""

    required: int
    permissions: list[str]
    self_approval: bool
    lifetime: float
    rule: str
    why: str


class SayingAnswer(Answer, frozen=True, kw_only=True):
    """What somebody has said of a run that waits for approval."""

    kind: str
    name: str
    at: str
    reason: str


class ApprovalAnswer(Answer, frozen=True, kw_only=True):
    """Whose approval a run needs or needed: `given` of `required` count so far. `by`: who
    has approved it; `expires`: when the request does; `rejected`: by whom, and why."""

    required: int
    given: int
    by: list[SayingAnswer]
    expires: str
    why: str
    rule: str
    permissions: list[str]
    self_approval: bool
    rejected: SayingAnswer | None = None


class TableLockAnswer(Struct, frozen=True, kw_only=True):
    """A lock on a table, its mode in the words of the database, and who waits for it:
    reads, writes, schema_changes."""

    table: str
    mode: str
    blocks: list[str]


class ForecastAnswer(Struct, frozen=True, kw_only=True):
    """What one statement would do to the tables that are there before the plan; not
    `is_understood`: the worst is foretold for the tables that it names."""

    locks: list[TableLockAnswer]
    rewrites: list[str]
    scans: list[str]
    algorithm: str
    is_understood: bool


class TableAnswer(Struct, frozen=True, kw_only=True):
    """How large a table is now, as the database estimates it; null: not known."""

    table: str
    rows: int | None
    bytes: int | None


class EstimateAnswer(Struct, frozen=True, kw_only=True):
    """How long the same step took before, in which run, on which database, and when that
    was asked for."""

    ms: int
    run: str
    database: str
    at: str


class SignalAnswer(Answer, frozen=True, kw_only=True):
    """One thing that was looked at: normal, stop or unknown, and why."""

    name: str
    state: str
    reason: str
    facts: dict[str, Any] = {}


class HealthAnswer(Answer, frozen=True, kw_only=True):
    """Is now a good moment? `go`, or `hold` while a signal stops that is not ignored."""

    database: str
    verdict: str
    signals: list[SignalAnswer]
    ignored: list[str] = []


class OpeningAnswer(Answer, frozen=True, kw_only=True):
    """When a run may begin that is asked for now: `reason` is now, window, freeze or
    never; `at` is the time where it is later, and `why` says it in a sentence."""

    at: str | None
    reason: str
    why: str


class ActiveWaitingAnswer(Answer, frozen=True, kw_only=True):
    """Why the run waits that owns a database, and until when if that is known."""

    reason: str
    until: str | None


class WorkedAnswer(Answer, frozen=True, kw_only=True):
    """The runs that a worker has begun, until it ended."""

    begun: list[str]


class OperationAnswer(Answer, frozen=True, kw_only=True):
    """One operation of a step, with its SQL where that can be known, and a forecast for
    each statement of it."""

    description: str
    sql: list[str] | None
    opaque: bool
    forecasts: list[ForecastAnswer] | None = None


class FindingAnswer(Answer, frozen=True, kw_only=True):
    """Something that a reader of the plan should know; `operation` is its place in the
    step, from 0, and `accepted` the reason that the migration itself gives."""

    code: str
    severity: str
    step: str | None
    operation: int | None
    message: str
    hint: str
    accepted: str


class DeferredAnswer(Answer, frozen=True, kw_only=True):
    """A step that comes after the deploy, or that a plan of one phase leaves out; `since`
    is when a run first put it off, `by` the build that did; it is overdue when another
    build is answering now; `waits_for` is the step for whose sake it comes after it."""

    app: str
    name: str
    phase: str
    why: str
    since: str | None
    by: str | None
    overdue: bool
    waits_for: str | None = None


class PlanStepAnswer(Answer, frozen=True, kw_only=True):
    """One migration, forwards or backwards."""

    app: str
    name: str
    direction: str
    atomic: bool
    reversible: bool
    rolls_back: bool
    digest: str
    replaces: list[str]
    phase: str
    phase_source: str
    phase_why: str
    waits_for: str | None
    operations: list[OperationAnswer]
    lock: str | None = None
    blocks: list[str] = []
    estimate: EstimateAnswer | None = None


class RehearsedAnswer(Answer, frozen=True, kw_only=True):
    """The last rehearsal of a plan, in a line: `GET rehearsals/{id}` has the report."""

    id: str
    state: str
    kind: str
    in_place: bool
    finished_at: str | None
    summary: str


class PlanAnswer(Answer, frozen=True, kw_only=True):
    """The steps that would bring a database to a wanted state. `details_next`: SQL and
    what follows from it are told up to this step, ask with `details` for more; null when
    there is no more. `approval`: what whoever reads this would need before they could
    carry it out; null where that is nothing."""

    database: str
    vendor: str
    direction: str
    mode: str
    targets: list[str]
    fingerprint: str
    build: str
    transactional_ddl: bool
    steps: list[PlanStepAnswer]
    findings: list[FindingAnswer]
    details_next: int | None
    phase: str | None
    deferred: list[DeferredAnswer]
    rehearsed: RehearsedAnswer | None = None
    tables: list[TableAnswer] = []
    approval: DemandAnswer | None = None
    opening: OpeningAnswer | None = None
