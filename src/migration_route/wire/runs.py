"""How are runs answered with, and what happens in them?"""

from __future__ import annotations

from typing import Any

from migration_route.wire.approvals import ApprovalAnswer
from migration_route.wire.body import Answer
from migration_route.wire.health import SignalAnswer
from migration_route.wire.plans import DeferredAnswer


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
