"""How does a run come on record, once?"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from django.db import IntegrityError

from migration_route import clock
from migration_route.approvals import Demand
from migration_route.canonical import canonical_json
from migration_route.conf import route_settings
from migration_route.connecting import PATIENCE, ledger_connection, ledger_transaction
from migration_route.errors import (
    ActiveRun,
    IdempotencyMismatch,
)
from migration_route.ledger.database_time import read_time
from migration_route.ledger.deferrals import stored
from migration_route.ledger.entries import Draft, append, retrying, take_in_what_was_left
from migration_route.ledger.permits import refuse_used_permit
from migration_route.ledger.records import (
    DeferredRecord,
    RunRecord,
    StepRecord,
    run_record,
)
from migration_route.masking import masked
from migration_route.models import Run
from migration_route.vocabulary import (
    Action,
    ActorKind,
    Direction,
    Mode,
    Phase,
    RunState,
    WaitingReason,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why a run does not begin yet, and until when."""

    reason: WaitingReason
    until: str
    facts: dict[str, Any]


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
    actor_key: str = ""  # what stays when the name changes; "": the name
    address: str
    reason: str
    build: str
    idempotency_key: str | None
    request_digest: str  # tells a repeated request from another one with the same key
    rebuild_invalid_indexes: bool = False
    phase: Phase | None = None  # None: everything
    deferred: tuple[DeferredRecord, ...] = ()  # what that phase leaves out
    demand: Demand | None = None  # it waits for this approval; None: it is queued
    resumes: str = ""  # the run that is resolved when this one begins
    begin_at: str = ""  # not before; "" for at once
    waiting: Waiting | None = None  # None: it may begin
    credential: dict[str, Any] = field(default_factory=dict)  # what a machine has shown
    permit: str | None = None  # the id of the permit that it uses up


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
    the key came with another request, `PermitUsed` when its permit has begun another.
    """
    alias = route_settings().ledger_database
    take_in_what_was_left(patience=PATIENCE)
    with ledger_connection(alias):
        return retrying(lambda: _open_once(alias, new))  # type: ignore[no-any-return]


def _open_once(alias: str, new: NewRun) -> tuple[RunRecord, bool]:
    if earlier := repeated(new.idempotency_key, new.request_digest):
        return earlier, False
    try:
        with ledger_transaction(alias):
            row = _insert(alias, new)
            append(_request_entry(row, new))
    except IntegrityError:
        # Who was first? If neither of these was, it was only a place in the chain.
        if earlier := repeated(new.idempotency_key, new.request_digest):
            return earlier, False
        refuse_used_permit(new.permit)
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


def _until_approved(demand: Demand, now: str) -> Waiting:
    """Return how it is put on record that a run waits for people: nothing else comes
    before that."""
    until = clock.written(clock.parsed(now) + demand.lifetime)
    return Waiting(reason=WaitingReason.APPROVAL, until=until, facts={})


def _insert(alias: str, new: NewRun) -> Run:
    now, demand = read_time(alias), new.demand
    state = RunState.WAITING if new.waiting else RunState.QUEUED
    waiting = new.waiting
    if demand:
        state, waiting = RunState.AWAITING_APPROVAL, _until_approved(demand, now)
    row = Run(
        id=new_id(),
        database=new.database,
        active_database=new.database,
        state=state,
        waiting_reason=waiting.reason if waiting else "",
        waiting_until=waiting.until if waiting else "",
        waiting_facts=json.dumps(waiting.facts) if waiting and waiting.facts else "",
        begin_at=new.begin_at,
        direction=new.direction,
        mode=new.mode,
        targets=json.dumps(new.targets),
        fingerprint=new.fingerprint,
        steps=canonical_json([step.to_dict() for step in new.steps]),
        actor_kind=new.actor_kind,
        actor_name=new.actor_name,
        actor_key=new.actor_key or new.actor_name,
        address=new.address,
        reason=masked(new.reason),
        build=new.build,
        idempotency_key=new.idempotency_key,
        request_digest=new.request_digest,
        rebuild_invalid_indexes=new.rebuild_invalid_indexes,
        phase=new.phase or "",
        permit=new.permit,
        deferred=stored(new.deferred),
        demand=canonical_json(demand.to_dict()) if demand else "",
        resumes=new.resumes,
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
            "actor_key": new.actor_key or new.actor_name,
            "reason": new.reason,
            "rebuild_invalid_indexes": new.rebuild_invalid_indexes,
            "phase": new.phase,
            **({"credential": new.credential} if new.credential else {}),
            **({"permit": new.permit} if new.permit else {}),
            "deferred": [[left.app, left.name, left.digest] for left in new.deferred],
            "approval": new.demand and new.demand.to_dict(),
            "at": new.begin_at or None,
            "waiting": new.waiting.reason if new.waiting else None,
            "until": new.waiting.until if new.waiting else None,
        },
    )
