"""How does a run begin, and how does it go from state to state?

Every transition is a compare-and-set with its entry in one transaction, on a
connection of the ledger's own.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError, transaction

from migration_route import clock
from migration_route.canonical import canonical_json
from migration_route.conf import route_settings
from migration_route.connecting import PATIENCE, own_connection
from migration_route.errors import (
    ActiveRun,
    IdempotencyMismatch,
    NotInThisState,
    UnknownRun,
)
from migration_route.ledger.deferrals import stored
from migration_route.ledger.entries import Draft, append, retrying, take_in_what_was_left
from migration_route.ledger.records import (
    DeferredRecord,
    RunRecord,
    StepError,
    StepRecord,
    run_record,
)
from migration_route.models import Run
from migration_route.vocabulary import (
    ENDED_STATES,
    Action,
    ActorKind,
    Direction,
    Mode,
    Phase,
    RunState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run that is to begin."""

    database: str
    direction: Direction
    mode: Mode
    targets: tuple[str, ...]
    fingerprint: str
    steps: tuple[StepRecord, ...]
    actor_kind: ActorKind
    actor_name: str
    address: str
    reason: str
    build: str
    idempotency_key: str | None
    request_digest: str  # tells a repeated request from another one with the same key
    rebuild_invalid_indexes: bool = False
    phase: Phase | None = None  # None: everything
    deferred: tuple[DeferredRecord, ...] = ()  # what that phase leaves out


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a transition writes besides the state."""

    outcome: str | None = None
    error: StepError | None = None
    steps: tuple[StepRecord, ...] | None = None
    waiting_reason: str = ""
    waiting_until: str = ""
    waiting_facts: dict[str, Any] = field(default_factory=dict)
    actor_kind: ActorKind = ActorKind.ROUTE
    actor_name: str = ""
    address: str = ""
    reason: str = ""
    action: Action = Action.RUN_STATE
    columns: dict[str, Any] = field(default_factory=dict)
    only_if: dict[str, Any] = field(default_factory=dict)  # columns that must be so still
    vouching: dict[str, Any] = field(default_factory=dict)  # for the events of the run


def new_id() -> str:
    """Return an id of 32 hexadecimal digits that sorts by time (RFC 9562, version 7)."""
    milliseconds = time.time_ns() // 1_000_000
    noise = secrets.randbits(74)
    value = milliseconds << 80 | 0x7 << 76 | (noise >> 62) << 64 | 0b10 << 62
    return f"{value | noise & (2**62 - 1):032x}"


def open_run(new: NewRun) -> tuple[RunRecord, bool]:
    """Put a run and its request on record; return it, and whether it is new.

    The same Idempotency-Key with the same request gives the run that it gave before.
    Raises `ActiveRun` when another run owns the database, `IdempotencyMismatch` when
    the key came with another request.
    """
    alias = route_settings().ledger_database
    take_in_what_was_left(patience=PATIENCE)
    with own_connection(alias):
        return retrying(lambda: _open_once(alias, new))  # type: ignore[no-any-return]


def _open_once(alias: str, new: NewRun) -> tuple[RunRecord, bool]:
    if earlier := repeated(new.idempotency_key, new.request_digest):
        return earlier, False
    try:
        with transaction.atomic(using=alias):
            row = _insert(alias, new)
            append(_request_entry(row, new))
    except IntegrityError:
        # Who was first? If neither of these was, it was only a place in the chain.
        if earlier := repeated(new.idempotency_key, new.request_digest):
            return earlier, False
        refuse_while_active(new.database)
        raise
    return run_record(row), True


def repeated(key: str | None, request_digest: str) -> RunRecord | None:
    """Return the run that this key began before, if any.

    Raises `IdempotencyMismatch` when the key came with another request.
    """
    if key is None:
        return None
    alias = route_settings().ledger_database
    row = Run.objects.using(alias).filter(idempotency_key=key).first()
    if row is None:
        return None
    if row.request_digest != request_digest:
        raise IdempotencyMismatch(run=row.id)
    return run_record(row)


def refuse_while_active(database: str) -> None:
    """Raise `ActiveRun`, naming the run, when one owns the database."""
    alias = route_settings().ledger_database
    row = Run.objects.using(alias).filter(active_database=database).first()
    if row is not None:
        raise ActiveRun(
            f"Run {row.id} owns the database {database!r}: it is {row.state}.",
            run=row.id,
        )


def _insert(alias: str, new: NewRun) -> Run:
    now = clock.now()
    row = Run(
        id=new_id(),
        database=new.database,
        active_database=new.database,
        state=RunState.QUEUED,
        direction=new.direction,
        mode=new.mode,
        targets=json.dumps(new.targets),
        fingerprint=new.fingerprint,
        steps=canonical_json([step.to_dict() for step in new.steps]),
        actor_kind=new.actor_kind,
        actor_name=new.actor_name,
        address=new.address,
        reason=new.reason,
        build=new.build,
        idempotency_key=new.idempotency_key,
        request_digest=new.request_digest,
        rebuild_invalid_indexes=new.rebuild_invalid_indexes,
        phase=new.phase or "",
        deferred=stored(new.deferred),
        created_at=now,
        heartbeat_at=now,
    )
    row.save(using=alias, force_insert=True)
    return row


def _request_entry(row: Run, new: NewRun) -> Draft:
    return Draft(
        action=Action.RUN_REQUESTED,
        actor_kind=new.actor_kind,
        actor_name=new.actor_name,
        address=new.address,
        database=new.database,
        run=row.id,
        build=new.build,
        facts={
            "fingerprint": new.fingerprint,
            "direction": new.direction,
            "mode": new.mode,
            "targets": list(new.targets),
            "steps": [[step.app, step.name, step.digest] for step in new.steps],
            "reason": new.reason,
            "rebuild_invalid_indexes": new.rebuild_invalid_indexes,
            "phase": new.phase,
            "deferred": [[left.app, left.name, left.digest] for left in new.deferred],
        },
    )


def move(
    run: str,
    *,
    to: RunState,
    expected: Collection[RunState],
    change: Change | None = None,
    patience: float = PATIENCE,
) -> RunRecord:
    """Move a run to another state if it is in one of the expected ones.

    Raises `NotInThisState`, with the state that it is in, and `UnknownRun`.
    """
    change = change or Change()
    alias = route_settings().ledger_database
    take_in_what_was_left(patience=patience)
    with own_connection(alias, patience=patience):
        return retrying(  # type: ignore[no-any-return]
            lambda: _move_once(alias, run, to, expected, change)
        )


def _move_once(
    alias: str, run: str, to: RunState, expected: Collection[RunState], change: Change
) -> RunRecord:
    with transaction.atomic(using=alias):
        rows = Run.objects.using(alias).filter(pk=run)
        before = rows.first()
        if before is None:
            raise UnknownRun
        fitting = rows.filter(state__in=list(expected), **change.only_if)
        if not fitting.update(**_columns(before, to, change)):
            state = rows.values_list("state", flat=True).get()
            raise NotInThisState(
                f"Run {run} is {state}; this can be done while it is "
                f"{' or '.join(sorted(expected))}.",
                run=run,
                state=state,
            )
        append(state_entry(before, to, change))
        return run_record(rows.get())


def _columns(before: Run, to: RunState, change: Change) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "state": to,
        "waiting_reason": change.waiting_reason,
        "waiting_until": change.waiting_until,
        "waiting_facts": json.dumps(change.waiting_facts) if change.waiting_facts else "",
        "heartbeat_at": clock.now(),
        **change.columns,
    }
    if change.outcome is not None:
        columns["outcome"] = change.outcome
    if change.error is not None:
        columns["error"] = canonical_json(change.error.to_dict())
    if change.steps is not None:
        columns["steps"] = canonical_json([step.to_dict() for step in change.steps])
    if to in ENDED_STATES:
        columns["active_database"] = None
        columns["finished_at"] = before.finished_at or clock.now()
    return columns


def state_entry(before: Run, to: RunState, change: Change) -> Draft:
    """Return the line that tells of a transition."""
    return Draft(
        action=change.action,
        actor_kind=change.actor_kind,
        actor_name=change.actor_name,
        address=change.address,
        database=before.database,
        run=before.id,
        build=before.build,
        facts={
            "from": before.state,
            "to": to,
            "outcome": change.outcome or "",
            "waiting": change.waiting_reason,
            "reason": change.reason,
            **change.vouching,
            "error": change.error and change.error.to_dict(),
            "steps": None
            if change.steps is None
            else [[step.app, step.name, step.state] for step in change.steps],
        },
    )


def beat(run: str, *, while_in: RunState) -> None:
    """Show that the process of a run lives, though nothing else has changed."""
    alias = route_settings().ledger_database
    with own_connection(alias):
        rows = Run.objects.using(alias).filter(pk=run, state=while_in)
        rows.update(heartbeat_at=clock.now())
