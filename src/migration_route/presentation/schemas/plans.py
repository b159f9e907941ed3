"""Responses about plans, forecasts, approvals, health and schedules."""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class Answer(Struct, frozen=True, kw_only=True):
    """A response body."""


class ApprovalRequirementAnswer(Answer, frozen=True, kw_only=True):
    """The approvals that a plan needs before it can run.

    `required` users must approve within `lifetime` seconds of the request, each with all
    `permissions` (`approve`: the permission of this app). Without `self_approval`, the
    requester does not count.
    """

    required: int
    permissions: list[str]
    self_approval: bool
    lifetime: float
    rule: str
    why: str


class ApprovalDecisionAnswer(Answer, frozen=True, kw_only=True):
    """An approval or a rejection of a run."""

    kind: str
    name: str
    at: str
    reason: str


class ApprovalAnswer(Answer, frozen=True, kw_only=True):
    """The approvals that a run needs or needed; `given` of `required` count so far.

    `by`: the approvals; `expires`: when the request expires; `rejected`: who rejected it,
    and why.
    """

    required: int
    given: int
    by: list[ApprovalDecisionAnswer]
    expires: str
    why: str
    rule: str
    permissions: list[str]
    self_approval: bool
    rejected: ApprovalDecisionAnswer | None = None


class TableLockAnswer(Struct, frozen=True, kw_only=True):
    """A lock on a table: its mode as the database names it, and what it blocks (reads,
    writes, schema_changes)."""

    table: str
    mode: str
    blocks: list[str]


class ForecastAnswer(Struct, frozen=True, kw_only=True):
    """What one statement would do to the tables that exist before the plan.

    Not `is_understood`: the worst case is assumed for the tables that it names.
    """

    locks: list[TableLockAnswer]
    rewrites: list[str]
    scans: list[str]
    algorithm: str
    is_understood: bool


class TableAnswer(Struct, frozen=True, kw_only=True):
    """The current size of a table, as the database estimates it; null if unknown."""

    table: str
    rows: int | None
    bytes: int | None


class EstimateAnswer(Struct, frozen=True, kw_only=True):
    """The expected duration of a step, `ms`, and the run or the rehearsal of the same step
    that it is derived from: on which database, and when it was requested.

    `environment`: whose exported ledger contains it; empty for this ledger. `rows`: of the
    tables that the step changes, now; `observed_ms` and `observed_rows`: at that time. If
    both numbers of rows are known, `ms` is scaled by them.
    """

    ms: int
    run: str
    database: str
    at: str
    rehearsal: str = ""
    environment: str = ""
    rows: int | None = None
    observed_ms: int | None = None
    observed_rows: int | None = None


class SignalAnswer(Answer, frozen=True, kw_only=True):
    """One health signal: normal, stop or unknown, and why."""

    name: str
    state: str
    reason: str
    facts: dict[str, Any] = {}


class HealthAnswer(Answer, frozen=True, kw_only=True):
    """The verdict of the health signals: `go`, or `pause` while a signal that is not
    ignored says stop."""

    database: str
    verdict: str
    signals: list[SignalAnswer]
    ignored: list[str] = []


class OpeningAnswer(Answer, frozen=True, kw_only=True):
    """When a run could start if it were requested now.

    `reason` is now, window, freeze or never; `at` is set if the start is later; `why` is
    the reason in a sentence.
    """

    at: str | None
    reason: str
    why: str


class ActiveWaitingAnswer(Answer, frozen=True, kw_only=True):
    """Why the active run of a database waits, and until when if that is known."""

    reason: str
    until: str | None


class WorkerAnswer(Answer, frozen=True, kw_only=True):
    """The runs that a worker started before it exited."""

    begun: list[str]


class OperationAnswer(Answer, frozen=True, kw_only=True):
    """One operation of a step, with its SQL if it is known and a forecast for each
    statement."""

    description: str
    sql: list[str] | None
    opaque: bool
    forecasts: list[ForecastAnswer] | None = None


class FindingAnswer(Answer, frozen=True, kw_only=True):
    """Something that a reader of the plan should know.

    `operation` is its position in the step, from 0; `accepted` is the reason that the
    migration itself states.
    """

    code: str
    severity: str
    step: str | None
    operation: int | None
    message: str
    hint: str
    accepted: str


class DeferredAnswer(Answer, frozen=True, kw_only=True):
    """A step that runs after the deploy, or that a plan of one phase leaves out.

    `since`: when a run first deferred it; `by`: the build of that run; `overdue`: another
    build responds now; `waits_for`: the step because of which it comes later.
    """

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


class RehearsalSummaryAnswer(Answer, frozen=True, kw_only=True):
    """A summary of the last rehearsal of a plan; `GET rehearsals/{id}` returns the
    report."""

    id: str
    state: str
    kind: str
    in_place: bool
    finished_at: str | None
    summary: str


class PlanAnswer(Answer, frozen=True, kw_only=True):
    """The steps that bring a database to a wanted state.

    `details_next`: SQL and what depends on it are included up to this step; request the
    next part with `details`; null if there is no more. `approval`: the approvals that the
    reader would need to apply it; null if none. `expected_ms`: the sum of the estimates;
    `expected_unknown`: the number of steps without one.
    """

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
    rehearsed: RehearsalSummaryAnswer | None = None
    tables: list[TableAnswer] = []
    approval: ApprovalRequirementAnswer | None = None
    opening: OpeningAnswer | None = None
    expected_ms: int | None = None
    expected_unknown: int = 0
