"""Which bodies does the route answer with?"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct


class Answer(Struct, frozen=True, kw_only=True):
    """A body that the route answers with."""


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
    """One operation of a step, with its SQL where that can be known."""

    description: str
    sql: list[str] | None
    opaque: bool


class FindingAnswer(Answer, frozen=True, kw_only=True):
    """Something that a reader of the plan should know."""

    code: str
    severity: str
    step: str | None
    message: str
    hint: str


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
    operations: list[OperationAnswer]


class RehearsedAnswer(Answer, frozen=True, kw_only=True):
    """The last rehearsal of a plan, in a line: `GET rehearsals/{id}` has the report."""

    id: str
    state: str
    kind: str
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
    rehearsed: RehearsedAnswer | None = None


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
    `orphan_backend`, the session that is at work in the database."""

    reason: str
    until: str | None
    attempt: int = 0
    stalled_ms: int = 0
    waited_ms: int = 0
    tables: list[str] = []
    blockers: list[BlockerAnswer] = []
    session: SessionAnswer | None = None


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


class EntryAnswer(Answer, frozen=True, kw_only=True):
    """One line of the ledger."""

    sequence: int
    at: str
    action: str
    actor: ActorAnswer
    address: str
    database: str
    run: str | None
    build: str
    facts: dict[str, Any]
    previous: str
    digest: str


class EntriesAnswer(Answer, frozen=True, kw_only=True):
    """Lines of the ledger, newest first; `next` is the cursor of the following page."""

    entries: list[EntryAnswer]
    next: int | None


class VerificationAnswer(Answer, frozen=True, kw_only=True):
    """Is the ledger as it was written?"""

    intact: bool
    entries: int
    broken: int | None = None
    message: str = ""


def to_json(answer: Answer) -> bytes:
    """Write an answer as JSON."""
    return msgspec.json.encode(answer)
