"""How is a plan answered with?"""

from __future__ import annotations

from migration_route.wire.approvals import DemandAnswer
from migration_route.wire.body import Answer
from migration_route.wire.forecasts import EstimateAnswer, ForecastAnswer, TableAnswer
from migration_route.wire.openings import OpeningAnswer


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
