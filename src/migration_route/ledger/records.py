"""The frozen values that the ledger reads from rows; they are never written back."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from django.db.models import Max

from migration_route.core import clock
from migration_route.core.canonical_json import JsonValue, canonical_json
from migration_route.core.enums import (
    ACTIVE_STATES,
    DONE_STEP_STATES,
    ENDED_STATES,
    SCHEDULE_REASONS,
    Action,
    ActorKind,
    ApprovalDecision,
    Direction,
    Mode,
    Phase,
    RunState,
    StepState,
)
from migration_route.core.values import ActorRef, ApprovalRequirement, RecordedDecision
from migration_route.ledger.hashchain import ChainHead
from migration_route.ledger.step_evidence import (
    NONE_ADDED,
    AddedOperations,
    OperationEvidence,
    StepError,
    parse_facts,
)
from migration_route.models import Approval, Entry, Event, Run, columns_of


def approval_requirement_of(row: Run) -> ApprovalRequirement | None:
    """Return the approval requirement of a run; None: it never had one."""
    return (
        ApprovalRequirement.from_dict(json.loads(row.approval_requirement))
        if row.approval_requirement
        else None
    )


def approvals_by_run(rows: Collection[Run]) -> dict[str, tuple[RecordedDecision, ...]]:
    """Return the approvals and rejections of each run, in chronological order.

    One query for any number of runs, limited to those that need an approval; no query
    when none does.
    """
    ids = [row.pk for row in rows if row.approval_requirement]
    approvals: dict[str, list[RecordedDecision]] = {}
    if ids:
        database = next(iter(rows))._state.db
        for row in Approval.objects.using(database).filter(run__in=ids).order_by("id"):
            approvals.setdefault(row.run, []).append(approval_record(row))
    return {run: tuple(of_run) for run, of_run in approvals.items()}


def approval_record(row: Approval) -> RecordedDecision:
    return RecordedDecision(
        decision=ApprovalDecision(row.decision),
        by=ActorRef(kind=ActorKind(row.actor_kind), name=row.actor_name, key=row.actor_key),
        permissions=frozenset(json.loads(row.permissions)),
        reason=row.reason,
        at=row.at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredRecord(JsonValue):
    """A step that a run left out."""

    app: str
    name: str
    digest: str  # of the migration's source
    phase: str  # the phase that it belongs to
    why: str  # why the run left it out
    build: str  # the code that deferred it: the one that the run prepares for

    @property
    def label(self) -> str:
        """Return "app.name"."""
        return f"{self.app}.{self.name}"


def deferred_to_json(deferred: Collection[DeferredRecord]) -> str:
    """Return the JSON text of deferred steps; "" for none."""
    return canonical_json([step.to_dict() for step in deferred]) if deferred else ""


def deferred_records(text: str) -> tuple[DeferredRecord, ...]:
    """Parse the JSON text that `deferred_to_json` returned."""
    return tuple(map(DeferredRecord.from_dict, json.loads(text or "[]")))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord(JsonValue):
    """One step of a run: what was permitted, and its progress."""

    app: str
    name: str
    direction: Direction
    digest: str  # of the migration's source
    rolls_back: bool  # the database rolls the whole step back when it fails
    state: StepState = StepState.NOT_STARTED
    duration_ms: int | None = None
    error: StepError | None = None
    # The progress, counted in the order of execution among the operations of the
    # migration's source: the operation that started last, or how many precede the added
    # operation that started; their number once all have finished. None: not reported.
    begun: int | None = None
    returned: bool = False  # that operation has finished, but may not be committed
    done_operations: int | None = None  # by the run that this one resumes; None: none
    operations: tuple[OperationEvidence, ...] | None = None  # None: not examined
    added: AddedOperations = NONE_ADDED
    rows: int | None = None  # of the tables that it changes, before the run
    expected_ms: int | None = None  # when the run was requested; None: not known

    @property
    def label(self) -> str:
        """Return "app.name"."""
        return f"{self.app}.{self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Return the stored form, without the added operations if there are none, and
        without what is not known of the duration."""
        added = None if self.added == NONE_ADDED else self.added.to_dict()
        stored = {**JsonValue.to_dict(self), "added": added}
        unknown = [key for key in ("rows", "expected_ms") if stored[key] is None]
        return {key: value for key, value in stored.items() if key not in unknown}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> StepRecord:
        return msgspec.convert({**stored, "added": stored.get("added") or {}}, cls)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedRun:
    """What was requested of a run."""

    database: str
    direction: Direction
    mode: Mode
    targets: tuple[str, ...]
    fingerprint: str
    steps: tuple[StepRecord, ...]
    actor_kind: ActorKind
    actor_name: str
    actor_key: str = ""  # survives a rename of the requester; "": the name
    reason: str
    build: str
    rebuild_invalid_indexes: bool = False
    phase: Phase | None = None  # None: all phases
    permit: str | None = None  # the id of the permit that it uses
    deferred: tuple[DeferredRecord, ...] = ()  # steps that the phase leaves out
    # The approval that it needs, or needed; None: no approval, the run is queued.
    approval_requirement: ApprovalRequirement | None = None
    resumes: str = ""  # the run that is resolved when this one starts
    not_before: str = ""  # earliest start; "": immediately


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord(RequestedRun):
    """One attempt at one plan."""

    id: str
    state: RunState
    outcome: str
    error: StepError | None
    waiting_reason: str
    waiting_until: str
    waiting_facts: dict[str, Any]  # blocking sessions, attempts
    control_request: str  # the pending control request; "": none
    host: str
    supervisor_pid: int | None
    worker_pid: int | None
    created_at: str
    started_at: str
    finished_at: str
    heartbeat_at: str
    last_event: int
    given: tuple[RecordedDecision, ...] = ()  # approvals and rejections
    override_schedule: bool = False  # a user overrides windows and freezes
    claimed_by: str = ""  # the claim token of the process that has claimed it; "": none
    head: ChainHead | None = None  # of the ledger when the run ended; None: it has not

    @property
    def requester(self) -> ActorRef:
        return ActorRef(kind=self.actor_kind, name=self.actor_name, key=self.actor_key)

    @property
    def is_active(self) -> bool:
        """Whether the run owns its database, or may still own it."""
        return self.state in ACTIVE_STATES

    @property
    def waits_to_begin(self) -> bool:
        """Whether no work was done yet and the run waits for its scheduled start."""
        return self.state is RunState.WAITING and self.waiting_reason in SCHEDULE_REASONS

    @property
    def expected_ms(self) -> int | None:
        """Return the expected duration of the steps for which one is known."""
        known = [step.expected_ms for step in self.steps if step.expected_ms is not None]
        return sum(known) if known else None

    @property
    def expected_unknown(self) -> int:
        """Return the number of steps whose duration is not known."""
        return sum(step.expected_ms is None for step in self.steps)

    def remaining_ms(self, now: str) -> int | None:
        """Return the expected time until the end, of the steps for which one is known."""
        if self.expected_ms is None or not self.is_active:
            return None
        done = [
            step.duration_ms or 0 for step in self.steps if step.state in DONE_STEP_STATES
        ]
        following = sum(
            step.expected_ms or 0
            for step in self.steps
            if step.state is StepState.NOT_STARTED
        )
        current = next((s for s in self.steps if s.state is StepState.APPLYING), None)
        if current is None or current.expected_ms is None or not self.started_at:
            return following
        since_start = clock.parse_time(now) - clock.parse_time(self.started_at)
        spent = round(since_start.total_seconds() * 1000) - sum(done)
        return following + min(max(current.expected_ms - spent, 0), current.expected_ms)

    def with_steps(self, steps: tuple[StepRecord, ...], *, last_event: int) -> RunRecord:
        return replace(self, steps=steps, last_event=last_event)


CANCELLED = "Cancelled"
"""The error type of a cancelled run or step."""

_CANCELLED_STATES = frozenset({RunState.CANCELLING, RunState.CANCELLED, RunState.PARTIAL})
_CANCEL_ACTIONS = (Action.CANCEL_REQUESTED, Action.FORCE_REQUESTED)
# PostgreSQL: query_canceled (errcodes-appendix). MySQL: ER_QUERY_INTERRUPTED, 1317.
_CANCEL_SQLSTATES = frozenset({"57014", "70100"})
_CANCEL_MESSAGES = (
    "canceling statement due to user request",
    "terminating connection due to administrator command",
    "Query execution was interrupted",
    "interrupted",  # sqlite3_interrupt()
)


def cancellations_by_run(rows: Collection[Run]) -> dict[str, StepError]:
    """Return the cancellation of each run, by run id, with who requested it.

    A run shows it instead of the error of its interrupted worker, which is a
    `KeyboardInterrupt`, or the driver's error for the cancelled statement.

    One query for the runs that may have been cancelled; no query if there are none.
    """
    ids = [row.pk for row in rows if row.state in _CANCELLED_STATES]
    if not ids:
        return {}
    database = next(iter(rows))._state.db
    entries = Entry.objects.using(database).filter(run__in=ids, action__in=_CANCEL_ACTIONS)
    cancellations: dict[str, StepError] = {}
    for entry in entries.order_by("sequence"):
        cancellations.setdefault(entry.run, _error_of(entry))
    return cancellations


def _error_of(entry: Entry) -> StepError:
    who = entry.actor_name or entry.actor_kind
    by_force = " by force" if entry.action == Action.FORCE_REQUESTED else ""
    reason = str(parse_facts(entry.facts).get("reason") or "")
    message = f"Cancelled{by_force} by {who} ({entry.actor_kind}) at {entry.at}"
    return StepError(
        type=CANCELLED, message=f"{message}: {reason}" if reason else f"{message}."
    )


def as_cancelled(error: StepError | None, cancelled: StepError | None) -> StepError | None:
    """Return the error to show for a step or run.

    An error that only says that the worker was interrupted is replaced by the cancellation.
    An error of the migration itself stays.
    """
    if error is None or cancelled is None or not is_interruption(error):
        return error
    return replace(cancelled, operation=error.operation)


def is_interruption(error: StepError) -> bool:
    """Whether a cancelled statement or worker raises this error."""
    if error.type == "KeyboardInterrupt" or error.sqlstate in _CANCEL_SQLSTATES:
        return True
    return error.type.endswith("OperationalError") and any(
        message in error.message for message in _CANCEL_MESSAGES
    )


def run_record(row: Run) -> RunRecord:
    """Return the record of a row, with its approvals."""
    return run_records([row])[0]


def run_records(rows: Iterable[Run]) -> list[RunRecord]:
    """Return the records of rows.

    Needs one further query for the approvals, one for who cancelled which run, and one for
    the heads of the ledger.
    """
    listed = list(rows)
    given, cancelled = approvals_by_run(listed), cancellations_by_run(listed)
    heads = heads_by_run(listed)
    return [
        _run_record(row, given.get(row.pk, ()), cancelled.get(row.pk), heads.get(row.pk))
        for row in listed
    ]


def heads_by_run(rows: Collection[Run]) -> dict[str, ChainHead]:
    """Return the last entry of each run that has ended, by run id: the head of the ledger
    at that time. A request that was denied or refused afterwards does not count.

    One query for any number of runs; no query if none has ended.
    """
    ids = [row.pk for row in rows if row.state in ENDED_STATES]
    if not ids:
        return {}
    entries = Entry.objects.using(next(iter(rows))._state.db)
    own = entries.filter(run__in=ids).exclude(action__in=(Action.DENIED, Action.REFUSED))
    newest = own.order_by().values("run").annotate(newest=Max("sequence"))
    found = entries.filter(sequence__in=newest.values("newest"))
    return {
        run: ChainHead(sequence=sequence, digest=digest)
        for run, sequence, digest in found.values_list("run", "sequence", "digest")
    }


def _run_record(
    row: Run,
    given: tuple[RecordedDecision, ...],
    cancelled: StepError | None,
    head: ChainHead | None,
) -> RunRecord:
    if row.error:
        error = as_cancelled(StepError.from_dict(json.loads(row.error)), cancelled)
    else:
        error = None if row.state == RunState.PARTIAL else cancelled
    steps = map(StepRecord.from_dict, json.loads(row.steps))
    columns = {
        **columns_of(row),
        "targets": json.loads(row.targets),
        "steps": [replace(s, error=as_cancelled(s.error, cancelled)) for s in steps],
        "error": error,
        "waiting_facts": json.loads(row.waiting_facts or "{}"),
        "phase": row.phase or None,
        "deferred": deferred_records(row.deferred),
        "approval_requirement": approval_requirement_of(row),
        "given": given,
        "head": head,
    }
    return msgspec.convert(columns, RunRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord(JsonValue):
    number: int
    at: str
    kind: str  # an `EventKind`, unless the row was tampered with
    step: int | None
    operation: int | None
    duration_ms: int | None
    text: str
    facts: dict[str, Any]
    digest: str

    def words(self) -> dict[str, Any]:
        """Return the fields that its digest covers: all but the digest."""
        words = self.to_dict()
        del words["digest"]
        return words


def event_record(row: Event) -> EventRecord:
    columns = columns_of(row)
    del columns["id"], columns["run"]
    return EventRecord(**{**columns, "facts": parse_facts(row.facts)})


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events of a run; `ended` is true when no more events follow."""

    events: tuple[EventRecord, ...]
    last: int
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRecord:
    sequence: int
    at: str
    action: str  # an `Action`, unless the row was tampered with
    actor_kind: str
    actor_name: str
    address: str
    database: str
    run: str
    build: str
    facts: dict[str, Any]
    previous: str
    digest: str
    uid: str = ""  # the id of its messages


def entry_record(row: Entry) -> EntryRecord:
    return EntryRecord(**{**columns_of(row), "facts": parse_facts(row.facts)})
