"""How does a rehearsal begin and end, and what is known of it?

What was seen when a plan was carried out on a copy? Frozen values, stored as JSON.

What is known of a rehearsal? Frozen values, made from its row.
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
from migration_route.core.canonical_json import canonical_json, digest
from migration_route.core.enums import (
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
from migration_route.ledger.database_time import DatabaseNow, read_time
from migration_route.ledger.entries import Draft, append, retrying
from migration_route.ledger.evidence import StepError
from migration_route.ledger.queries import read
from migration_route.ledger.runs import new_id
from migration_route.models import Rehearsal


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedLock:
    """A lock that a statement has really taken on a table that was there before."""

    table: str
    mode: str  # in the words of the database
    blocks: tuple[str, ...] = ()  # the words of `forecast.Blocked`
    held_ms: int | None = None  # from the statement to the end of the step


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedStatement:
    """One statement as it was carried out."""

    sql: str
    duration_ms: int  # of the slowest, where it was sent more than once
    times: int = 1  # how often Python sent this text
    total_ms: int = 0  # all those times together
    rows: int | None = None  # as the driver counts them; None: it does not
    locks: tuple[ObservedLock, ...] | None = None  # None: they could not be seen
    rewrites: tuple[str, ...] = ()  # tables whose every row was written anew
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedOperation:
    """One operation of a step; without a position: what comes at the end of the step."""

    position: int | None
    description: str
    duration_ms: int
    runs_python: bool = False
    queries: int = 0  # all statements that it sent
    distinct: int = 0  # how many of them differ
    omitted: int = 0  # those that are counted, and not listed
    statements: tuple[ObservedStatement, ...] = ()  # of Python's queries, the slowest


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedError:
    """What stopped a step."""

    type: str
    message: str
    operation: int | None = None
    sqlstate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedStep:
    """One step as it was carried out."""

    app: str
    name: str
    direction: str
    state: str = "not_started"  # the words of `StepState`
    duration_ms: int | None = None
    operations: tuple[ObservedOperation, ...] = ()
    error: ObservedError | None = None

    @property
    def label(self) -> str:
        """Return "app.name"."""
        return f"{self.app}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limitation:
    """Something that this rehearsal could not show, and why."""

    code: str
    message: str
    step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a rehearsal has shown."""

    steps: tuple[ObservedStep, ...] = ()
    back: tuple[ObservedStep, ...] | None = None  # the way back; None: not walked
    differences: tuple[str, ...] | None = (
        None  # of the schema afterwards; None: not compared
    )
    limits: tuple[Limitation, ...] = ()
    copy_ms: int | None = None
    duration_ms: int | None = None  # of the steps forth, without the copy
    output: tuple[str, ...] = ()  # the last lines that were printed

    def longest_lock(self) -> ObservedLock | None:
        """Return the lock that kept others waiting for longest; None: none was seen."""
        found = [
            lock
            for step in self.steps
            for operation in step.operations
            for statement in operation.statements
            for lock in statement.locks or ()
            if lock.held_ms is not None and {"reads", "writes"} & set(lock.blocks)
        ]
        return max(
            found, key=lambda lock: (len(lock.blocks), lock.held_ms or 0), default=None
        )


def report_to_json(report: Report) -> str:
    """Return it as it is stored."""
    return msgspec.json.encode(report).decode()


def report_from_json(text: str) -> Report:
    """Read what `report_to_json` returned."""
    return msgspec.json.decode(text, type=Report)


ACTIVE = frozenset({RehearsalState.QUEUED, RehearsalState.COPYING, RehearsalState.RUNNING})
"""The states in which the processes of a rehearsal are, or may be, at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRehearsal:
    """A rehearsal that is to begin."""

    database: str
    kind: CopyKind
    and_back: bool
    direction: Direction
    targets: tuple[str, ...]
    fingerprint: str
    steps: tuple[tuple[str, str, str], ...]  # app, name, digest of the source
    phase: Phase | None = None  # None: everything
    left_out: tuple[tuple[str, str, str], ...] = ()  # by that phase, as in `steps`
    actor_kind: ActorKind
    actor_name: str
    address: str
    reason: str
    build: str
    in_place: bool = False  # on the database itself, and rolled back
    credential: dict[str, Any] = field(default_factory=dict)  # what a machine has shown


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalRecord:
    """A plan that is, or was, carried out on a copy, or in place."""

    id: str
    database: str
    state: RehearsalState
    kind: CopyKind
    and_back: bool
    in_place: bool  # on the database itself, and rolled back
    direction: Direction
    targets: tuple[str, ...]
    fingerprint: str
    steps: tuple[tuple[str, str, str], ...]
    phase: Phase | None
    left_out: tuple[tuple[str, str, str], ...]
    actor_kind: ActorKind
    actor_name: str
    reason: str
    build: str
    scratch: str  # the database that was made for it; "" where none was
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
        """Tell whether it is under way, or may be."""
        return self.state in ACTIVE

    @property
    def unrehearsed(self) -> int:
        """Return how many steps of one that went through were left out of it."""
        if self.state is not RehearsalState.SUCCEEDED:
            return 0
        return sum(step.state == StepState.NOT_STARTED for step in self.report.steps)


def _steps(text: str) -> tuple[tuple[str, str, str], ...]:
    return tuple((app, name, found) for app, name, found in json.loads(text or "[]"))


def record_of(row: Rehearsal) -> RehearsalRecord:
    """Return a row as a value."""
    error = json.loads(row.error) if row.error else None
    return RehearsalRecord(
        id=row.id,
        database=row.database,
        state=RehearsalState(row.state),
        kind=CopyKind(row.kind),
        and_back=row.and_back,
        in_place=row.in_place,
        direction=Direction(row.direction),
        targets=tuple(json.loads(row.targets)),
        fingerprint=row.fingerprint,
        steps=_steps(row.steps),
        phase=Phase(row.phase) if row.phase else None,
        left_out=_steps(row.left_out),
        actor_kind=ActorKind(row.actor_kind),
        actor_name=row.actor_name,
        reason=row.reason,
        build=row.build,
        scratch=row.scratch,
        is_removed=row.is_removed,
        host=row.host,
        pid=row.pid,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        heartbeat_at=row.heartbeat_at,
        error=StepError(**error) if error else None,
        report=report_from_json(row.report) if row.report else Report(),
    )


def open_rehearsal(new: NewRehearsal) -> RehearsalRecord:
    """Put a rehearsal and its request on record.

    Raises `ActiveRehearsal` when another one of the database is under way.
    """
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        return retrying(lambda: _open_once(alias, new))  # type: ignore[no-any-return]


def _open_once(alias: str, new: NewRehearsal) -> RehearsalRecord:
    now = read_time(alias)
    row = Rehearsal(
        id=new_id(),
        database=new.database,
        active_database=new.database,
        state=RehearsalState.QUEUED,
        kind=new.kind,
        and_back=new.and_back,
        in_place=new.in_place,
        direction=new.direction,
        targets=json.dumps(new.targets),
        fingerprint=new.fingerprint,
        steps=json.dumps(new.steps),
        phase=new.phase or "",
        left_out=json.dumps(new.left_out) if new.left_out else "",
        actor_kind=new.actor_kind,
        actor_name=new.actor_name,
        address=new.address,
        reason=redact(new.reason),
        build=new.build,
        created_at=now,
        heartbeat_at=now,
    )
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
            "and_back": new.and_back,
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
    return record_of(row)


def move(
    rehearsal: str,
    *,
    to: RehearsalState,
    expected: Collection[RehearsalState],
    error: StepError | None = None,
    report: Report | None = None,
    **columns: Any,
) -> RehearsalRecord:
    """Move a rehearsal on if it is in one of the expected states; its end is an entry.

    Raises `NotInThisState` and `UnknownRehearsal`.
    """
    alias = route_settings().ledger_database
    columns |= {"state": to, "heartbeat_at": DatabaseNow()}
    if error is not None:
        columns["error"] = canonical_json(error.to_dict())
    if report is not None:
        columns["report"] = report_to_json(report)
    if to not in ACTIVE:
        columns |= {"active_database": None, "finished_at": clock.now()}

    def once() -> RehearsalRecord:
        with ledger_transaction(alias):
            rows = Rehearsal.objects.using(alias).filter(pk=rehearsal)
            if not rows.filter(state__in=list(expected)).update(**columns):
                row = rows.first()
                if row is None:
                    raise UnknownRehearsal
                raise InvalidState(f"Rehearsal {rehearsal} is {row.state}.")
            row = rows.get()
            if to not in ACTIVE:
                append(_ended(row))
            return record_of(row)

    with ledger_connection(alias, patience=60.0 if to not in ACTIVE else PATIENCE):
        return retrying(once)  # type: ignore[no-any-return]


def _ended(row: Rehearsal) -> Draft:
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
        },
    )


def note(rehearsal: str, **columns: Any) -> None:
    """Write down what is no change of its state: the name of its database, its heart."""
    alias = route_settings().ledger_database
    with ledger_connection(alias):
        rows = Rehearsal.objects.using(alias).filter(pk=rehearsal)
        rows.update(**{"heartbeat_at": DatabaseNow(), **columns})


def find_rehearsal(rehearsal: str) -> RehearsalRecord:
    """Return a rehearsal as it is on record. Raises `UnknownRehearsal`."""
    found = _read(lambda rows: rows.filter(pk=rehearsal), limit=1)
    if not found:
        raise UnknownRehearsal(f"There is no rehearsal {rehearsal!r}.")
    return found[0]


def list_rehearsals(
    *, database: str | None = None, before: str | None = None, limit: int = 20
) -> list[RehearsalRecord]:
    """Return rehearsals, newest first."""

    def query(rows: Any) -> Any:
        rows = rows if database is None else rows.filter(database=database)
        return rows if before is None else rows.filter(pk__lt=before)

    return _read(query, limit=limit)


def of_plan(fingerprint: str) -> RehearsalRecord | None:
    """Return the last rehearsal of a plan, whichever build read that; None: none was."""
    name = fingerprint.rpartition("-")[2]
    return next(
        iter(_read(lambda rows: rows.filter(fingerprint__endswith=name), limit=1)), None
    )


def unfinished(database: str | None = None) -> list[RehearsalRecord]:
    """Return those that are under way, or whose database is still to be removed."""

    def query(rows: Any) -> Any:
        rows = rows if database is None else rows.filter(database=database)
        return rows.exclude(active_database=None, is_removed=True)

    return _read(query, limit=1000)


def _read(query: Callable[[Any], Any], *, limit: int) -> list[RehearsalRecord]:
    def rows(alias: str) -> list[RehearsalRecord]:
        found = query(Rehearsal.objects.using(alias).order_by("-id"))[:limit]
        return [record_of(row) for row in found]

    return read(rows, empty=[])
