"""Which bodies does the route answer with?"""

from __future__ import annotations

from typing import Any

import msgspec

from migration_route.wire.body import Answer
from migration_route.wire.forecasts import EstimateAnswer, ForecastAnswer, TableAnswer
from migration_route.wire.health import SignalAnswer


class Problem(Answer, frozen=True, kw_only=True):
    """An error, as RFC 9457 shapes it, with a code that never changes."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str = ""
    run: str | None = None
    facts: dict[str, Any] = {}


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
    build is answering now."""

    app: str
    name: str
    phase: str
    why: str
    since: str | None
    by: str | None
    overdue: bool


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
    there is no more."""

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


class ActorAnswer(Answer, frozen=True, kw_only=True):
    """Who asked for something."""

    kind: str
    name: str


class BlockerAnswer(Answer, frozen=True, kw_only=True):
    """A session that is in the way; `since` is when its transaction began. Not `certain`:
    the database does not show locks, and this transaction has been open for long."""

    pid: int
    user: str
    application: str
    query: str
    since: str
    state: str
    certain: bool


class SessionAnswer(Answer, frozen=True, kw_only=True):
    """A session of the database; `since` is when its statement began."""

    pid: int
    user: str
    application: str
    query: str
    since: str
    state: str


class WaitingAnswer(Answer, frozen=True, kw_only=True):
    """Why a run waits, and until when if that is known; while it is `blocked`, how often
    it has tried, how long it has held others up, and who is in the way; for an
    `orphan_backend`, the session that is at work in the database; for `health`, the
    signals that stop and those that are unknown, and when it gives up."""

    reason: str
    until: str | None
    attempt: int = 0
    stalled_ms: int = 0
    waited_ms: int = 0
    tables: list[str] = []
    blockers: list[BlockerAnswer] = []
    session: SessionAnswer | None = None
    signals: list[SignalAnswer] = []
    gives_up: str | None = None


class NotEndedAnswer(Answer, frozen=True, kw_only=True):
    """A session that was left alone, and why."""

    pid: int
    why: str


class EndedBlockersAnswer(Answer, frozen=True, kw_only=True):
    """What became of the sessions that were in the way of a run."""

    run: str
    ended: list[BlockerAnswer]
    not_ended: list[NotEndedAnswer]


class StepErrorAnswer(Answer, frozen=True, kw_only=True):
    """What stopped a step."""

    type: str
    message: str
    operation: int | None = None
    sqlstate: str | None = None


class OperationEvidenceAnswer(Answer, frozen=True, kw_only=True):
    """Whether what one operation does is in the database: in, out, midway or unknown."""

    position: int
    description: str
    state: str


class RunStepAnswer(Answer, frozen=True, kw_only=True):
    """One step of a run, as far as it is known to have come."""

    app: str
    name: str
    direction: str
    state: str
    duration_ms: int | None
    error: StepErrorAnswer | None
    operations: list[OperationEvidenceAnswer] | None = None


class RunAnswer(Answer, frozen=True, kw_only=True):
    """One attempt at one plan."""

    id: str
    database: str
    state: str
    outcome: str | None
    ended: bool
    direction: str
    mode: str
    targets: list[str]
    fingerprint: str
    requested_by: ActorAnswer
    reason: str
    waiting: WaitingAnswer | None
    asked: str | None
    steps: list[RunStepAnswer]
    error: StepErrorAnswer | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    build: str
    last_event: int
    phase: str | None = None
    deferred: list[DeferredAnswer] = []


class RunsAnswer(Answer, frozen=True, kw_only=True):
    """Runs, newest first; `next` is the cursor of the following page."""

    runs: list[RunAnswer]
    next: str | None


class EventAnswer(Answer, frozen=True, kw_only=True):
    """Something that happened in a run; `number` rises by one."""

    number: int
    at: str
    kind: str
    step: int | None
    operation: int | None
    duration_ms: int | None
    text: str
    facts: dict[str, Any] = {}


class EventsAnswer(Answer, frozen=True, kw_only=True):
    """Events after the asked number; `ended` when no more will come."""

    events: list[EventAnswer]
    last: int
    ended: bool


class DatabaseAnswer(Answer, frozen=True, kw_only=True):
    """What is known of one database right now."""

    database: str
    reachable: bool
    vendor: str
    pending: int | None
    pending_migrations: list[str]
    required: int | None
    required_migrations: list[str]
    deferred: list[DeferredAnswer]
    applied: int | None
    ahead: list[str]
    active_run: str | None
    needs_resolution: str | None
    ledger_installed: bool
    problem: Problem | None


class StatusAnswer(Answer, frozen=True, kw_only=True):
    """Every database of the project."""

    build: str
    ledger_database: str
    databases: list[DatabaseAnswer]


class ReadyAnswer(Answer, frozen=True, kw_only=True):
    """May traffic come?"""

    ready: bool


def to_json(answer: Answer) -> bytes:
    """Write an answer as JSON."""
    return msgspec.json.encode(answer)
