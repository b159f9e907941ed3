"""Responses about runs, events, the ledger, status and errors."""

from __future__ import annotations

from typing import Any

import msgspec

from migration_route.presentation.schemas.plans import (
    ActiveWaitingAnswer,
    Answer,
    ApprovalAnswer,
    DeferredAnswer,
    SignalAnswer,
)


class Problem(Answer, frozen=True, kw_only=True):
    """An error as problem details (RFC 9457), with a stable code."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str = ""
    run: str | None = None
    facts: dict[str, Any] = {}


def to_json(answer: Answer) -> bytes:
    return msgspec.json.encode(answer)


class ActorAnswer(Answer, frozen=True, kw_only=True):
    """Who requested something."""

    kind: str
    name: str


class BlockerAnswer(Answer, frozen=True, kw_only=True):
    """A session that blocks a run; `since` is when its transaction started.

    Not `certain`: the database does not show locks, and this transaction has been open for
    long.
    """

    pid: int
    user: str
    application: str
    query: str
    since: str
    state: str
    certain: bool


class SessionAnswer(Answer, frozen=True, kw_only=True):
    """A session of the database; `since` is when its statement started."""

    pid: int
    user: str
    application: str
    query: str
    since: str
    state: str


class WaitingAnswer(Answer, frozen=True, kw_only=True):
    """Why a run waits, and until when if that is known.

    While it is `blocked`: the number of attempts, how long it has blocked others, and its
    blockers. For an `orphaned_session`: the session that is still active in the database.
    For
    `health`: the signals that stop it or are unknown, and when it gives up. For a `time`, a
    `window` or a `freeze`: the reason in a sentence. For `no_worker`: no process has
    claimed it.
    """

    reason: str
    until: str | None
    attempt: int = 0
    blocking_ms: int = 0
    waited_ms: int = 0
    tables: list[str] = []
    blockers: list[BlockerAnswer] = []
    session: SessionAnswer | None = None
    signals: list[SignalAnswer] = []
    gives_up: str | None = None
    why: str = ""


class NotTerminatedAnswer(Answer, frozen=True, kw_only=True):
    """A session that was not terminated, and why."""

    pid: int
    why: str


class TerminatedBlockersAnswer(Answer, frozen=True, kw_only=True):
    """The blocking sessions that were and were not terminated."""

    run: str
    terminated: list[BlockerAnswer]
    not_terminated: list[NotTerminatedAnswer]


class StepErrorAnswer(Answer, frozen=True, kw_only=True):
    """The error that stopped a step."""

    type: str
    message: str
    operation: int | None = None
    sqlstate: str | None = None


class OperationEvidenceAnswer(Answer, frozen=True, kw_only=True):
    """Whether the effect of one operation is in the database: present, absent, partial or
    unknown."""

    position: int
    description: str
    state: str


class RunStepAnswer(Answer, frozen=True, kw_only=True):
    """One step of a run and its progress.

    `rolls_back`: the database rolls it back as a whole when it fails.
    """

    app: str
    name: str
    direction: str
    state: str
    duration_ms: int | None
    error: StepErrorAnswer | None
    operations: list[OperationEvidenceAnswer] | None = None
    rolls_back: bool = True
    expected_ms: int | None = None


class RunAnswer(Answer, frozen=True, kw_only=True):
    """One attempt at one plan.

    `expected_ms`: the expected duration of its steps, as estimated when it was requested;
    `expected_unknown`: the number of steps for which none is known, which neither
    `expected_ms` nor `remaining_ms` contains. `ledger_head`: the last entry of a run
    that has ended, as NUMBER:HASH, which was the last of the ledger at that time; null
    while it is active.
    """

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
    control_request: str | None
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
    expected_ms: int | None = None
    expected_unknown: int = 0
    remaining_ms: int | None = None
    ledger_head: str | None = None


class RunsAnswer(Answer, frozen=True, kw_only=True):
    """Runs, newest first; `next` is the cursor of the next page."""

    runs: list[RunAnswer]
    next: str | None


class EventAnswer(Answer, frozen=True, kw_only=True):
    """One event of a run; `number` increases by one."""

    number: int
    """Its position in the run, from 1."""
    at: str
    """When it happened."""
    kind: str
    """One of the kinds below."""
    step: int | None
    """The position of the step in the run's `steps`, from 0. Null outside of steps."""
    operation: int | None
    """The position of the operation in the migration's list, from 0. Null if there is none.
    For a printed line or an error: the operation that started last."""
    duration_ms: int | None
    """How long it took, for anything that has ended."""
    text: str
    """The text of the event."""
    facts: dict[str, Any] = {}
    """Further data, by kind: see below."""


class EventsAnswer(Answer, frozen=True, kw_only=True):
    """Events after the requested number; `ended` if no more will follow."""

    events: list[EventAnswer]
    last: int
    ended: bool


class EntryAnswer(Answer, frozen=True, kw_only=True):
    """One entry of the ledger."""

    sequence: int
    """Its position in the chain, from 1, without gaps."""
    at: str
    """When it was recorded, or when it happened, if recording had to wait."""
    action: str
    """One of the actions below."""
    actor: ActorAnswer
    """The actor: `kind` and `name`."""
    address: str
    """The address of the caller: that of the connection, or the one that a trusted proxy
    reports (`NETWORKS`). Empty on a Unix socket, for the command and for the system."""
    database: str
    """The alias that it concerns, or empty."""
    run: str | None
    """The ID of the run that it concerns, or null."""
    build: str
    """The running code."""
    facts: dict[str, Any]
    """Further data, as JSON. The keys depend on the action."""
    previous: str
    """The digest of the previous entry; 64 zeros for the first."""
    digest: str
    """SHA-256 over this entry and `previous`."""


class EntriesAnswer(Answer, frozen=True, kw_only=True):
    """Entries of the ledger, newest first; `next` is the cursor of the next page."""

    entries: list[EntryAnswer]
    next: int | None


class VerificationAnswer(Answer, frozen=True, kw_only=True):
    """The result of verifying the integrity of the ledger.

    `ledger_head`: the last entry, as NUMBER:HASH; null if the ledger is not intact or has
    no entry.
    """

    intact: bool
    entries: int
    broken: int | None = None
    message: str = ""
    ledger_head: str | None = None


class ExportedEntry(Answer, frozen=True, kw_only=True):
    """One line of an export: an entry as it is stored.

    `digest` covers all its other fields, including `previous`. The whole file can be
    verified without this package.
    """

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
    """The current status of one database."""

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
    """The status of every database of the project."""

    build: str
    ledger_database: str
    databases: list[DatabaseAnswer]


class ReadyAnswer(Answer, frozen=True, kw_only=True):
    """Whether the service is ready for traffic."""

    ready: bool


class NotificationMessage(Answer, frozen=True, kw_only=True):
    """The body that a webhook receives.

    `entry` is the entry of the ledger, unchanged; `run` is its run when the message was
    made. `ledger_head`: in the messages that a run has ended, its entry as NUMBER:HASH,
    which was the last of the ledger at that time; null otherwise.
    """

    id: str
    event: str
    at: str
    database: str
    summary: str
    entry: EntryAnswer
    run: RunAnswer | None
    ledger_head: str | None = None
