"""How are runs answered with, and what happens in them?

How is it answered what goes wrong?

Which bodies tell of the ledger?

How does it look on the wire how the databases stand?

Which body tells somebody what has happened?
"""

from __future__ import annotations

from typing import Any

import msgspec

from migration_route.presentation.schemas.base import Answer
from migration_route.presentation.schemas.plans import (
    ActiveWaitingAnswer,
    ApprovalAnswer,
    DeferredAnswer,
    SignalAnswer,
)


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


def to_json(answer: Answer) -> bytes:
    """Write an answer as JSON."""
    return msgspec.json.encode(answer)


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
    signals that stop and those that are unknown, and when it gives up; for a `time`, a
    `window` or a `freeze`, why in a sentence. `carrier`: no process has taken it."""

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
    why: str = ""


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
    """One step of a run, as far as it is known to have come; `rolls_back`: the database
    undoes it as a whole when it fails."""

    app: str
    name: str
    direction: str
    state: str
    duration_ms: int | None
    error: StepErrorAnswer | None
    operations: list[OperationEvidenceAnswer] | None = None
    rolls_back: bool = True


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
    permit: str | None = None
    deferred: list[DeferredAnswer] = []
    approval: ApprovalAnswer | None = None
    resumes: str | None = None
    at: str | None = None


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


class ExportedEntry(Answer, frozen=True, kw_only=True):
    """One line of an export, as it is stored: `digest` is that of all its other words, and
    of `previous`. Whoever has the whole file can verify it without the route."""

    sequence: int
    uid: str
    at: str
    action: str
    actor_kind: str
    actor_name: str
    address: str
    database: str
    run: str
    build: str
    facts: dict[str, Any]
    previous: str
    digest: str


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
    active_state: str | None = None
    active_waiting: ActiveWaitingAnswer | None = None


class StatusAnswer(Answer, frozen=True, kw_only=True):
    """Every database of the project."""

    build: str
    ledger_database: str
    databases: list[DatabaseAnswer]


class ReadyAnswer(Answer, frozen=True, kw_only=True):
    """May traffic come?"""

    ready: bool


class HappeningMessage(Answer, frozen=True, kw_only=True):
    """What a webhook is sent: `entry` is what happened, word for word as it stands on the
    ledger; `run` is its run, as it was when the message was made."""

    id: str
    event: str
    at: str
    database: str
    summary: str
    entry: EntryAnswer
    run: RunAnswer | None
