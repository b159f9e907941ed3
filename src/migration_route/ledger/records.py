"""The frozen values that the ledger reads from rows; they are never written back.

What was demanded of a run, and who has said what of it? Read from rows.

What did a run of one phase leave out? Frozen values, as they are stored.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

from migration_route.core.canonical_json import canonical_json
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
from migration_route.core.values import ActorRef, ApprovalGiven, ApprovalRequirement
from migration_route.ledger.evidence import (
    NONE_ADDED,
    AddedOperations,
    OperationEvidence,
    StepError,
    as_cancelled,
    cancellations_of,
    facts_of,
)
from migration_route.models import Approval, Entry, Event, Run


def demand_of(row: Run) -> ApprovalRequirement | None:
    """Return what is demanded of a run; None where nothing ever was."""
    return ApprovalRequirement.from_dict(json.loads(row.demand)) if row.demand else None


def given_by_run(rows: Collection[Run]) -> dict[str, tuple[ApprovalGiven, ...]]:
    """Return the approvals and rejections of runs, each in the order in which they came.

    One query, whatever the number of runs, for those alone that need an approval.
    """
    about = [row.pk for row in rows if row.demand]
    found: dict[str, list[ApprovalGiven]] = {}
    if about:
        database = next(iter(rows))._state.db
        for row in Approval.objects.using(database).filter(run__in=about).order_by("id"):
            found.setdefault(row.run, []).append(given(row))
    return {run: tuple(sayings) for run, sayings in found.items()}


def given(row: Approval) -> ApprovalGiven:
    """Read a row."""
    return ApprovalGiven(
        decision=ApprovalDecision(row.decision),
        by=ActorRef(kind=ActorKind(row.actor_kind), name=row.actor_name, key=row.actor_key),
        permissions=frozenset(json.loads(row.permissions)),
        reason=row.reason,
        at=row.at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeferredRecord:
    """One step that a run left out."""

    app: str
    name: str
    digest: str  # of the migration's source
    phase: str  # where it belongs
    why: str  # why the run left it out
    build: str  # the code that put it off: it is the one that the run made way for

    @property
    def label(self) -> str:
        """Return "app.name"."""
        return f"{self.app}.{self.name}"

    def to_dict(self) -> dict[str, str]:
        """Return it as it is stored."""
        return {
            "app": self.app,
            "name": self.name,
            "digest": self.digest,
            "phase": self.phase,
            "why": self.why,
            "build": self.build,
        }


def stored(deferred: Collection[DeferredRecord]) -> str:
    """Write what a row holds; "" for nothing."""
    return canonical_json([left.to_dict() for left in deferred]) if deferred else ""


def deferred_records(text: str) -> tuple[DeferredRecord, ...]:
    """Read what `stored` wrote."""
    return tuple(DeferredRecord(**left) for left in json.loads(text)) if text else ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """One step of a run: what was permitted, and how far it has come."""

    app: str
    name: str
    direction: Direction
    digest: str  # of the migration's source
    rolls_back: bool  # the database undoes it as a whole when it fails
    state: StepState = StepState.NOT_STARTED
    duration_ms: int | None = None
    error: StepError | None = None
    # How far it has come, counted in the order of execution among the operations of the
    # migration's source: the one that has begun last, or how many come before the added
    # one that has; their number once all have come to their end. None: not told.
    begun: int | None = None
    returned: bool = False  # that one has come to its end, but may not be committed
    done_operations: int | None = None  # by the run that this one resumes; None: by none
    operations: tuple[OperationEvidence, ...] | None = None  # None: nobody had to look
    added: AddedOperations = NONE_ADDED

    @property
    def label(self) -> str:
        """Return "app.name"."""
        return f"{self.app}.{self.name}"

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is stored."""
        return {
            "app": self.app,
            "name": self.name,
            "direction": self.direction,
            "digest": self.digest,
            "rolls_back": self.rolls_back,
            "state": self.state,
            "duration_ms": self.duration_ms,
            "error": self.error and self.error.to_dict(),
            "begun": self.begun,
            "returned": self.returned,
            "done_operations": self.done_operations,
            "operations": None
            if self.operations is None
            else [found.to_dict() for found in self.operations],
            "added": None if self.added == NONE_ADDED else self.added.to_dict(),
        }

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> StepRecord:
        """Read what `to_dict` returned."""
        error = stored["error"]
        operations = stored.get("operations")
        added = stored.get("added")
        return cls(
            app=stored["app"],
            name=stored["name"],
            direction=Direction(stored["direction"]),
            digest=stored["digest"],
            rolls_back=stored["rolls_back"],
            state=StepState(stored["state"]),
            duration_ms=stored["duration_ms"],
            error=StepError(**error) if error else None,
            begun=stored.get("begun"),
            returned=stored.get("returned", False),
            done_operations=stored.get("done_operations"),
            operations=None
            if operations is None
            else tuple(map(OperationEvidence.from_dict, operations)),
            added=NONE_ADDED if added is None else AddedOperations.from_dict(added),
        )


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
    request_digest: str
    waiting_reason: str
    waiting_until: str
    waiting_facts: dict[str, Any]  # who is in the way, what was tried
    asked: str  # what a person wants of it next; "" for nothing
    host: str
    supervisor_pid: int | None
    worker_pid: int | None
    created_at: str
    started_at: str
    finished_at: str
    heartbeat_at: str
    last_event: int
    rebuild_invalid_indexes: bool = False
    phase: Phase | None = None  # None: everything
    permit: str | None = None  # the id of the permit that it has used up
    deferred: tuple[DeferredRecord, ...] = ()  # what that phase leaves out
    demand: ApprovalRequirement | None = None  # whose approval it needs, or needed
    given: tuple[ApprovalGiven, ...] = ()  # what people have said of it
    resumes: str = ""  # the run that is resolved when this one begins
    begin_at: str = ""  # not before; "" for at once
    in_spite: bool = False  # of windows and freezes, as a person wants it
    actor_key: str = ""  # what stays when the name of who asked changes; "": the name
    carrier: str = ""  # the process that has taken it, by a word of its own; "" for none

    @property
    def requester(self) -> ActorRef:
        """Return who has asked for it."""
        return ActorRef(kind=self.actor_kind, name=self.actor_name, key=self.actor_key)

    @property
    def is_active(self) -> bool:
        """Tell whether it owns its database, or may still own it."""
        return self.state in ACTIVE_STATES

    @property
    def waits_to_begin(self) -> bool:
        """Tell whether nothing was done for it yet, and it waits for its opening."""
        return self.state is RunState.WAITING and self.waiting_reason in SCHEDULE_REASONS

    def with_steps(self, steps: tuple[StepRecord, ...], *, last_event: int) -> RunRecord:
        """Return it as a later look shows it."""
        return replace(self, steps=steps, last_event=last_event)


def run_record(row: Run) -> RunRecord:
    """Read a row, with its approvals."""
    return run_records([row])[0]


def run_records(rows: Iterable[Run]) -> list[RunRecord]:
    """Read rows, with their approvals in one query more, and in another one who cancelled
    those that were cancelled."""
    found = list(rows)
    given, cancelled = given_by_run(found), cancellations_of(found)
    return [_run_record(row, given.get(row.pk, ()), cancelled.get(row.pk)) for row in found]


def _run_record(
    row: Run, given: tuple[ApprovalGiven, ...], cancelled: StepError | None
) -> RunRecord:
    error = json.loads(row.error) if row.error else None
    return RunRecord(
        id=row.id,
        database=row.database,
        state=RunState(row.state),
        outcome=row.outcome,
        direction=Direction(row.direction),
        mode=Mode(row.mode),
        targets=tuple(json.loads(row.targets)),
        fingerprint=row.fingerprint,
        steps=tuple(
            replace(step, error=as_cancelled(step.error, cancelled))
            for step in map(StepRecord.from_dict, json.loads(row.steps))
        ),
        error=as_cancelled(StepError(**error), cancelled)
        if error
        else None
        if row.state == RunState.PARTIAL
        else cancelled,
        actor_kind=ActorKind(row.actor_kind),
        actor_name=row.actor_name,
        actor_key=row.actor_key,
        reason=row.reason,
        build=row.build,
        request_digest=row.request_digest,
        waiting_reason=row.waiting_reason,
        waiting_until=row.waiting_until,
        waiting_facts=json.loads(row.waiting_facts) if row.waiting_facts else {},
        asked=row.asked,
        host=row.host,
        supervisor_pid=row.supervisor_pid,
        worker_pid=row.worker_pid,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        heartbeat_at=row.heartbeat_at,
        last_event=row.last_event,
        rebuild_invalid_indexes=row.rebuild_invalid_indexes,
        phase=Phase(row.phase) if row.phase else None,
        permit=row.permit,
        deferred=deferred_records(row.deferred),
        demand=demand_of(row),
        given=given,
        resumes=row.resumes,
        begin_at=row.begin_at,
        in_spite=row.in_spite,
        carrier=row.carrier,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRecord:
    """Something that happened in a run."""

    number: int
    at: str
    kind: str  # an `EventKind`, unless somebody has tampered with the row
    step: int | None
    operation: int | None
    duration_ms: int | None
    text: str
    facts: dict[str, Any]
    digest: str

    def words(self) -> dict[str, Any]:
        """Return what its digest covers."""
        return {
            "number": self.number,
            "at": self.at,
            "kind": self.kind,
            "step": self.step,
            "operation": self.operation,
            "duration_ms": self.duration_ms,
            "text": self.text,
            "facts": self.facts,
        }


def event_record(row: Event) -> EventRecord:
    """Read a row."""
    return EventRecord(
        number=row.number,
        at=row.at,
        kind=row.kind,
        step=row.step,
        operation=row.operation,
        duration_ms=row.duration_ms,
        text=row.text,
        facts=facts_of(row.facts),
        digest=row.digest,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventPage:
    """Events of a run, and whether more may come."""

    events: tuple[EventRecord, ...]
    last: int
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRecord:
    """One line of the ledger."""

    sequence: int
    at: str
    action: str  # an `Action`, unless somebody has tampered with the row
    actor_kind: str
    actor_name: str
    address: str
    database: str
    run: str
    build: str
    facts: dict[str, Any]
    previous: str
    digest: str
    uid: str = ""  # the name that its messages bear


def entry_record(row: Entry) -> EntryRecord:
    """Read a row."""
    return EntryRecord(
        sequence=row.sequence,
        at=row.at,
        action=row.action,
        actor_kind=row.actor_kind,
        actor_name=row.actor_name,
        address=row.address,
        database=row.database,
        run=row.run,
        build=row.build,
        facts=facts_of(row.facts),
        previous=row.previous,
        digest=row.digest,
        uid=row.uid,
    )
