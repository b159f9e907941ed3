"""Records rehearsals: their request, their states and the report of what was observed.

Reports are frozen values, stored as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.db import IntegrityError

from migration_route.conf import route_settings
from migration_route.conf.databases import PATIENCE, ledger_connection, ledger_transaction
from migration_route.core import clock
from migration_route.core.canonical_json import canonical_json, digest, to_plain
from migration_route.core.enums import (
    DONE_STEP_STATES,
    Action,
    ActorKind,
    CopyKind,
    Direction,
    Phase,
    RehearsalState,
    StepState,
)
from migration_route.core.errors import ActiveRehearsal, InvalidState, UnknownRehearsal
from migration_route.core.redaction import redact
from migration_route.ledger.claims import DatabaseNow, read_time
from migration_route.ledger.entries import (
    Draft,
    append,
    retry_on_conflict,
    write_transaction,
)
from migration_route.ledger.queries import read
from migration_route.ledger.runs import new_id
from migration_route.ledger.step_evidence import StepError
from migration_route.models import Rehearsal, columns_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedLock:
    """A lock that a statement took on a table that existed before."""

    table: str
    mode: str  # the database's name of the lock mode
    blocks: tuple[str, ...] = ()  # values of `forecast.Blocked`
    held_ms: int | None = None  # from the statement to the end of the step


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedStatement:
    """One statement as it was executed."""

    sql: str
    duration_ms: int  # of the slowest execution
    times: int = 1  # how often Python sent this text
    total_ms: int = 0  # of all executions
    rows: int | None = None  # as the driver counts them; None: it does not
    locks: tuple[ObservedLock, ...] | None = None  # None: not observable
    rewrites: tuple[str, ...] = ()  # tables that were rewritten
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedOperation:
    """One operation of a step; position None: the statements at the end of the step."""

    position: int | None
    description: str
    duration_ms: int
    runs_python: bool = False
    queries: int = 0  # all statements that it sent
    distinct: int = 0  # distinct statements
    omitted: int = 0  # counted, but not listed
    statements: tuple[ObservedStatement, ...] = ()  # of Python's queries, the slowest


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedStep:
    """One step as it was executed."""

    app: str
    name: str
    direction: str
    state: str = "not_started"  # a value of `StepState`
    duration_ms: int | None = None
    operations: tuple[ObservedOperation, ...] = ()
    # Between its statements and the SQL of its plan, without values.
    sql_differences: tuple[str, ...] = ()
    error: StepError | None = None
    rows: int | None = None  # of the tables that it changes, before the rehearsal

    @property
    def label(self) -> str:
        """Return "app.name"."""
        return f"{self.app}.{self.name}"

    def longest_lock(self) -> ObservedLock | None:
        """Return the lock that blocks most for longest; None: none was observed.

        A lock that blocks reads and writes comes before one that blocks only one of them.
        """
        locks = [
            lock
            for operation in self.operations
            for statement in operation.statements
            for lock in statement.locks or ()
            if lock.held_ms is not None and {"reads", "writes"} & set(lock.blocks)
        ]
        return max(locks, key=_weight, default=None)


def _weight(lock: ObservedLock) -> tuple[int, int]:
    return len(lock.blocks), lock.held_ms or 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limitation:
    """Something that this rehearsal could not observe, and why."""

    code: str
    message: str
    step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The observations of a rehearsal."""

    steps: tuple[ObservedStep, ...] = ()
    back: tuple[ObservedStep, ...] | None = None  # the reversal; None: not executed
    # Between the schema before and after the round trip; None: not compared.
    differences: tuple[str, ...] | None = None
    limits: tuple[Limitation, ...] = ()
    copy_ms: int | None = None
    duration_ms: int | None = None  # of the steps, without the reversal and the copy
    output: tuple[str, ...] = ()  # the last lines of output

    def longest_lock(self) -> ObservedLock | None:
        """Return the longest lock of all steps, by the same order."""
        locks = [lock for step in self.steps if (lock := step.longest_lock())]
        return max(locks, key=_weight, default=None)


def report_to_json(report: Report) -> str:
    """Return the stored form, without numbers of rows that are not known."""
    stored = msgspec.to_builtins(report)
    for step in (*stored["steps"], *(stored["back"] or ())):
        if step["rows"] is None:
            del step["rows"]
    return msgspec.json.encode(stored).decode()


def report_from_json(text: str) -> Report:
    return msgspec.json.decode(text, type=Report)


ACTIVE = frozenset({RehearsalState.QUEUED, RehearsalState.COPYING, RehearsalState.RUNNING})
"""The states in which the processes of a rehearsal run, or may run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestedRehearsal:
    """What was requested of a rehearsal."""

    database: str
    kind: CopyKind
    round_trip: bool
    in_place: bool = False  # on the database itself, and rolled back
    direction: Direction
    targets: tuple[str, ...]
    fingerprint: str
    steps: tuple[tuple[str, str, str], ...]  # app, name, digest of the source
    phase: Phase | None = None  # None: all phases
    left_out: tuple[tuple[str, str, str], ...] = ()  # by the phase, as in `steps`
    actor_kind: ActorKind
    actor_name: str
    reason: str
    build: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRehearsal(RequestedRehearsal):
    address: str
    credential: dict[str, Any] = field(default_factory=dict)  # the machine's credential


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalRecord(RequestedRehearsal):
    """A plan that is, or was, executed on a copy or in place."""

    id: str
    state: RehearsalState
    scratch_database: str  # the scratch database; "": none
    is_removed: bool
    host: str
    pid: int | None
    created_at: str
    started_at: str
    finished_at: str
    heartbeat_at: str
    error: StepError | None
    report: Report

    @property
    def is_active(self) -> bool:
        """Whether the rehearsal is in progress, or may be."""
        return self.state in ACTIVE

    @property
    def unrehearsed(self) -> int:
        """How many steps a successful rehearsal did not execute."""
        if self.state is not RehearsalState.SUCCEEDED:
            return 0
        return sum(step.state == StepState.NOT_STARTED for step in self.report.steps)


def rehearsal_record(row: Rehearsal) -> RehearsalRecord:
    columns = {
        **columns_of(row),
        "targets": json.loads(row.targets),
        "steps": json.loads(row.steps),
        "left_out": json.loads(row.left_out or "[]"),
        "phase": row.phase or None,
        "error": json.loads(row.error) if row.error else None,
        "report": report_from_json(row.report) if row.report else Report(),
    }
    return msgspec.convert(columns, RehearsalRecord)


ObservedDuration = tuple[str, str, str, str, int, int | None]
"""App, name, direction, source digest, milliseconds, rows of a step that was rehearsed."""


def durations_of(rehearsal: RehearsalRecord) -> tuple[ObservedDuration, ...]:
    """Return the durations of the steps of a rehearsal; none if its copy had no rows."""
    if rehearsal.kind is not CopyKind.DATA:
        return ()
    digests = {(app, name): digest for app, name, digest in rehearsal.steps}
    return tuple(
        (
            step.app,
            step.name,
            step.direction,
            digests[step.app, step.name],
            step.duration_ms,
            step.rows,
        )
        for step in (*rehearsal.report.steps, *(rehearsal.report.back or ()))
        if step.state in DONE_STEP_STATES
        and step.duration_ms is not None
        and (step.app, step.name) in digests
    )


def create_rehearsal(new: NewRehearsal) -> RehearsalRecord:
    """Record a rehearsal and its request.

    Raises `ActiveRehearsal` while another rehearsal of the database is in progress.
    """
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        return retry_on_conflict(lambda: _create_once(alias, new))


def _create_once(alias: str, new: NewRehearsal) -> RehearsalRecord:
    now = read_time(alias)
    columns = {
        **to_plain(new),
        "id": new_id(),
        "active_database": new.database,
        "state": RehearsalState.QUEUED,
        "targets": json.dumps(new.targets),
        "steps": json.dumps(new.steps),
        "phase": new.phase or "",
        "left_out": json.dumps(new.left_out) if new.left_out else "",
        "reason": redact(new.reason),
        "created_at": now,
        "heartbeat_at": now,
    }
    del columns["credential"]
    row = Rehearsal(**columns)
    requested = Draft(
        action=Action.REHEARSAL_REQUESTED,
        actor_kind=new.actor_kind,
        actor_name=new.actor_name,
        address=new.address,
        database=new.database,
        build=new.build,
        facts={
            "rehearsal": row.id,
            "fingerprint": new.fingerprint,
            "kind": new.kind,
            "round_trip": new.round_trip,
            "in_place": new.in_place,
            "targets": list(new.targets),
            "phase": new.phase,
            "reason": new.reason,
            **({"credential": new.credential} if new.credential else {}),
        },
    )
    try:
        with ledger_transaction(alias):
            row.save(using=alias, force_insert=True)
            append(requested)
    except IntegrityError:
        other = Rehearsal.objects.using(alias).filter(active_database=new.database).first()
        if other is None:
            raise
        raise ActiveRehearsal(
            f"Rehearsal {other.id} of {new.database!r} is {other.state}.",
            rehearsal=other.id,
        ) from None
    return rehearsal_record(row)


def move(
    rehearsal: str,
    *,
    to: RehearsalState,
    expected: Collection[RehearsalState],
    error: StepError | None = None,
    report: Report | None = None,
    **columns: Any,
) -> RehearsalRecord:
    """Move a rehearsal to another state if it is in an expected one; its end is an entry.

    Raises `InvalidState` and `UnknownRehearsal`.
    """
    columns |= {"state": to, "heartbeat_at": DatabaseNow()}
    if error is not None:
        columns["error"] = canonical_json(error.to_dict())
    if report is not None:
        columns["report"] = report_to_json(report)
    if to not in ACTIVE:
        columns |= {"active_database": None, "finished_at": clock.now()}

    def move_once(alias: str) -> RehearsalRecord:
        rows = Rehearsal.objects.using(alias).filter(pk=rehearsal)
        if not rows.filter(state__in=list(expected)).update(**columns):
            row = rows.first()
            if row is None:
                raise UnknownRehearsal
            raise InvalidState(f"Rehearsal {rehearsal} is {row.state}.")
        row = rows.get()
        if to not in ACTIVE:
            append(_end_entry(row))
        return rehearsal_record(row)

    return write_transaction(move_once, patience=60.0 if to not in ACTIVE else PATIENCE)


def _end_entry(row: Rehearsal) -> Draft:
    return Draft(
        action=Action.REHEARSAL_ENDED,
        database=row.database,
        build=row.build,
        facts={
            "rehearsal": row.id,
            "fingerprint": row.fingerprint,
            "in_place": row.in_place,
            "state": row.state,
            "error": json.loads(row.error) if row.error else None,
            "report_digest": digest(row.report),
            "durations": durations_of(rehearsal_record(row)),
        },
    )


def update_rehearsal(rehearsal: str, **columns: Any) -> None:
    """Write a heartbeat and columns without a change of state."""
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        rows = Rehearsal.objects.using(alias).filter(pk=rehearsal)
        rows.update(**{"heartbeat_at": DatabaseNow(), **columns})


def find_rehearsal(rehearsal: str) -> RehearsalRecord:
    """Return the record of a rehearsal. Raises `UnknownRehearsal`."""
    records = _read(lambda rows: rows.filter(pk=rehearsal), limit=1)
    if not records:
        raise UnknownRehearsal(f"Rehearsal {rehearsal!r} does not exist.")
    return records[0]


def list_rehearsals(
    *, database: str | None = None, before: str | None = None, limit: int = 20
) -> list[RehearsalRecord]:

    def query(rows: Any) -> Any:
        rows = rows if database is None else rows.filter(database=database)
        return rows if before is None else rows.filter(pk__lt=before)

    return _read(query, limit=limit)


def last_rehearsal_of(fingerprint: str) -> RehearsalRecord | None:
    """Return the last rehearsal of a plan in any build; None: the plan has none."""
    name = fingerprint.rpartition("-")[2]
    return next(
        iter(_read(lambda rows: rows.filter(fingerprint__endswith=name), limit=1)), None
    )


def rehearsals_of(
    fingerprint: str, *, database: str, until: str, limit: int = 100
) -> list[RehearsalRecord]:
    """Return the rehearsals of a plan in any build that were requested until a time, newest
    first."""
    name = fingerprint.rpartition("-")[2]

    def query(rows: Any) -> Any:
        of_plan = rows.filter(database=database, fingerprint__endswith=name)
        return of_plan.filter(created_at__lte=until)

    return _read(query, limit=limit)


def unfinished_rehearsals(database: str | None = None) -> list[RehearsalRecord]:
    """Return the rehearsals in progress, or with a scratch database to remove."""

    def query(rows: Any) -> Any:
        rows = rows if database is None else rows.filter(database=database)
        return rows.exclude(active_database=None, is_removed=True)

    return _read(query, limit=1000)


def _read(query: Callable[[Any], Any], *, limit: int) -> list[RehearsalRecord]:
    def rows(alias: str) -> list[RehearsalRecord]:
        selected = query(Rehearsal.objects.using(alias).order_by("-id"))[:limit]
        return [rehearsal_record(row) for row in selected]

    return read(rows, empty=[])
