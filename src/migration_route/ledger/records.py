"""The frozen values that the ledger reads from rows; they are never written back."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from migration_route.core.canonical_json import JsonValue, canonical_json
from migration_route.core.enums import (
    ACTIVE_STATES,
    SCHEDULE_REASONS,
    ActorKind,
    ApprovalDecision,
    Direction,
    Mode,
    Phase,
    RunState,
    StepState,
)
from migration_route.core.values import ActorRef, ApprovalRequirement, RecordedDecision
from migration_route.ledger.cancellations import as_cancelled, cancellations_by_run
from migration_route.ledger.evidence import (
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

    @property
    def label(self) -> str:
        """Return "app.name"."""
        return f"{self.app}.{self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Return the stored form, without the added operations if there are none."""
        added = None if self.added == NONE_ADDED else self.added.to_dict()
        return {**JsonValue.to_dict(self), "added": added}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> StepRecord:
        """Read the output of `to_dict`."""
        return msgspec.convert({**stored, "added": stored.get("added") or {}}, cls)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """One attempt at one plan."""

    id: str
    database: str
    state: RunState
    outcome: str
    direction: Direction
    mode: Mode
    targets: tuple[str, ...]
    fingerprint: str
    steps: tuple[StepRecord, ...]
    error: StepError | None
    actor_kind: ActorKind
    actor_name: str
    reason: str
    build: str
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
    rebuild_invalid_indexes: bool = False
    phase: Phase | None = None  # None: all phases
    permit: str | None = None  # the id of the permit that it has used
    deferred: tuple[DeferredRecord, ...] = ()  # steps that the phase leaves out
    # the approval that it needs, or needed
    approval_requirement: ApprovalRequirement | None = None
    given: tuple[RecordedDecision, ...] = ()  # approvals and rejections
    resumes: str = ""  # the run that is resolved when this one starts
    not_before: str = ""  # earliest start; "": immediately
    override_schedule: bool = False  # a user overrides windows and freezes
    actor_key: str = ""  # survives a rename of the requester; "": the name
    claimed_by: str = ""  # the claim token of the process that has claimed it; "": none

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

    def with_steps(self, steps: tuple[StepRecord, ...], *, last_event: int) -> RunRecord:
        return replace(self, steps=steps, last_event=last_event)


def run_record(row: Run) -> RunRecord:
    """Return the record of a row, with its approvals."""
    return run_records([row])[0]


def run_records(rows: Iterable[Run]) -> list[RunRecord]:
    """Return the records of rows.

    Needs one further query for the approvals, and one for who cancelled which run.
    """
    listed = list(rows)
    given, cancelled = approvals_by_run(listed), cancellations_by_run(listed)
    return [
        _run_record(row, given.get(row.pk, ()), cancelled.get(row.pk)) for row in listed
    ]


def _run_record(
    row: Run, given: tuple[RecordedDecision, ...], cancelled: StepError | None
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
    }
    return msgspec.convert(columns, RunRecord)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord(JsonValue):
    """An event of a run."""

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
    """One entry of the ledger."""

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
