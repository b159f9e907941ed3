"""Creates runs and moves them from state to state.

Every transition is a compare-and-set with its ledger entry in one transaction, on a
connection that only the ledger uses. A permit is good for one run, whose row stores its
id.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import IntegrityError

from migration_route.conf import route_settings
from migration_route.conf.databases import PATIENCE, ledger_connection, ledger_transaction
from migration_route.core import clock
from migration_route.core.canonical_json import canonical_json, to_plain
from migration_route.core.enums import (
    ENDED_STATES,
    Action,
    ActorKind,
    ControlRequest,
    RunState,
    StepState,
    WaitingReason,
)
from migration_route.core.errors import (
    ActiveRun,
    Forbidden,
    IdempotencyMismatch,
    InvalidState,
    UnknownRun,
)
from migration_route.core.redaction import redact
from migration_route.core.values import ApprovalRequirement
from migration_route.ledger.claims import DatabaseNow, read_time, renew_claim
from migration_route.ledger.entries import (
    Draft,
    absorb_spool,
    append,
    retry_on_conflict,
    write_transaction,
)
from migration_route.ledger.records import (
    RequestedRun,
    RunRecord,
    StepRecord,
    deferred_to_json,
    run_record,
)
from migration_route.ledger.step_evidence import StepError
from migration_route.models import Run


class PermitUsed(Forbidden):
    """This permit has already been used: it is valid for one run."""

    code = "permit_used"
    hint = "Check that run, or create a permit with 'manage.py migration_route permit'."


def refuse_used_permit(permit: str | None) -> None:
    """Raise `PermitUsed`, naming the run, when a run has used this permit."""
    if permit is None:
        return
    alias = route_settings().ledger_database
    row = Run.objects.using(alias).filter(permit=permit).first()
    if row is not None:
        raise PermitUsed(f"This permit has already been used for run {row.id}.", run=row.id)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitInfo:
    """Why a run has not started yet, and until when it waits."""

    reason: WaitingReason
    until: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun(RequestedRun):
    address: str
    idempotency_key: str | None
    request_digest: str  # detects a different request with the same key
    waiting: WaitInfo | None = None  # None: the run may start
    credential: dict[str, Any] = field(default_factory=dict)  # the machine's credential


def new_id() -> str:
    """Return a UUID of 32 hexadecimal digits that sorts by time (RFC 9562, version 7)."""
    milliseconds = time.time_ns() // 1_000_000
    noise = secrets.randbits(74)
    value = milliseconds << 80 | 0x7 << 76 | (noise >> 62) << 64 | 0b10 << 62
    return f"{value | noise & (2**62 - 1):032x}"


def create_run(new: NewRun) -> tuple[RunRecord, bool]:
    """Record a run and its request; return the run, and whether it is new.

    A repeated Idempotency-Key with the same request returns the existing run. Raises
    `ActiveRun` when another run owns the database, `IdempotencyMismatch` when the key was
    used with a different request, `PermitUsed` when another run has used the permit.
    """
    alias = route_settings().ledger_database
    absorb_spool(patience=PATIENCE)
    with ledger_connection(alias):
        return retry_on_conflict(lambda: _create_once(alias, new))


def _create_once(alias: str, new: NewRun) -> tuple[RunRecord, bool]:
    if earlier := find_by_idempotency_key(new.idempotency_key, new.request_digest):
        return earlier, False
    try:
        with ledger_transaction(alias):
            row = _insert(alias, new)
            append(_request_entry(row, new))
    except IntegrityError:
        # If none of these checks applies, the conflict was the position in the chain.
        if earlier := find_by_idempotency_key(new.idempotency_key, new.request_digest):
            return earlier, False
        refuse_used_permit(new.permit)
        refuse_while_active(new.database)
        raise
    return run_record(row), True


def find_by_idempotency_key(key: str | None, request_digest: str) -> RunRecord | None:
    """Return the run that was created with this idempotency key, if any.

    Raises `IdempotencyMismatch` when the key was used with a different request.
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
            f"Run {row.id} ({row.state}) owns the database {database!r}.",
            run=row.id,
        )


def _approval_wait(requirement: ApprovalRequirement, now: str) -> WaitInfo:
    until = clock.format_time(clock.parse_time(now) + requirement.lifetime)
    return WaitInfo(reason=WaitingReason.APPROVAL, until=until, facts={})


def _insert(alias: str, new: NewRun) -> Run:
    now, requirement = read_time(alias), new.approval_requirement
    state = RunState.WAITING if new.waiting else RunState.QUEUED
    waiting = new.waiting
    if requirement:
        # Approval comes before every other reason to wait.
        state, waiting = RunState.AWAITING_APPROVAL, _approval_wait(requirement, now)
    columns = {
        **to_plain(new),
        "id": new_id(),
        "active_database": new.database,
        "state": state,
        "waiting_reason": waiting.reason if waiting else "",
        "waiting_until": waiting.until if waiting else "",
        "waiting_facts": json.dumps(waiting.facts) if waiting and waiting.facts else "",
        "targets": json.dumps(new.targets),
        "steps": canonical_json([step.to_dict() for step in new.steps]),
        "actor_key": new.actor_key or new.actor_name,
        "reason": redact(new.reason),
        "phase": new.phase or "",
        "deferred": deferred_to_json(new.deferred),
        "approval_requirement": canonical_json(requirement.to_dict())
        if requirement
        else "",
        "created_at": now,
        "heartbeat_at": now,
    }
    del columns["waiting"], columns["credential"]
    row = Run(**columns)
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
            "rows": [step.rows for step in new.steps],
            **({"resumes": new.resumes} if new.resumes else {}),
            "actor_key": new.actor_key or new.actor_name,
            "reason": new.reason,
            "rebuild_invalid_indexes": new.rebuild_invalid_indexes,
            "phase": new.phase,
            **({"credential": new.credential} if new.credential else {}),
            **({"permit": new.permit} if new.permit else {}),
            "deferred": [[left.app, left.name, left.digest] for left in new.deferred],
            "approval": new.approval_requirement and new.approval_requirement.to_dict(),
            "at": new.not_before or None,
            "waiting": new.waiting.reason if new.waiting else None,
            "until": new.waiting.until if new.waiting else None,
        },
    )


RESUMED = "resumed"
"""The outcome of a run whose step another run continues."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The values that a transition writes besides the state."""

    outcome: str | None = None
    error: StepError | None = None
    steps: tuple[StepRecord, ...] | None = None
    waiting_reason: str = ""
    waiting_until: str = ""
    waiting_facts: dict[str, Any] = field(default_factory=dict)
    actor_kind: ActorKind = ActorKind.SYSTEM
    actor_name: str = ""
    address: str = ""
    credential: dict[str, Any] = field(default_factory=dict)  # the machine's credential
    reason: str = ""
    action: Action = Action.RUN_STATE
    claim: str | None = None  # of the writing process; None: not a process of the run
    columns: dict[str, Any] = field(default_factory=dict)
    only_if: dict[str, Any] = field(default_factory=dict)  # required values of columns
    entry_facts: dict[str, Any] = field(default_factory=dict)  # digest of the run's events


def move(
    run: str,
    *,
    to: RunState,
    expected: Collection[RunState],
    change: Change | None = None,
    patience: float = PATIENCE,
) -> RunRecord:
    """Move a run to another state if it is in one of the expected states.

    Raises `InvalidState`, with the current state, `UnknownRun`, and `ClaimLost` when the
    caller is a process of the run that no longer owns its claim.
    """
    absorb_spool(patience=patience)
    return write_transaction(
        lambda alias: move_in_transaction(alias, run, to, expected, change or Change()),
        patience=patience,
    )


def move_in_transaction(
    alias: str, run: str, to: RunState, expected: Collection[RunState], change: Change
) -> RunRecord:
    """Do what `move` does, once, in the caller's open transaction."""
    rows = Run.objects.using(alias).filter(pk=run)
    before = locked_row(alias, run)
    if change.claim is not None:
        renew_claim(run, change.claim)
    to, change = _with_resumed_step(before, to, change)
    # The row is locked, so the entry names the state that is replaced.
    matching = rows.filter(state=before.state, **change.only_if)
    if before.state not in expected or not matching.update(**_columns(before, to, change)):
        raise InvalidState(
            f"Run {run} is {before.state}; this action needs a run that is "
            f"{' or '.join(sorted(expected))}.",
            run=run,
            state=before.state,
        )
    append(state_entry(before, to, change))
    return run_record(rows.get())


def locked_row(alias: str, run: str) -> Run:
    """Return the row of a run, locked until the caller's transaction ends.

    On SQLite, the transaction locks the whole file from its start. Raises `UnknownRun`.
    """
    row = Run.objects.using(alias).select_for_update().filter(pk=run).first()
    if row is None:
        raise UnknownRun(f"Run {run!r} does not exist.")
    return row


def _with_resumed_step(
    before: Run, to: RunState, change: Change
) -> tuple[RunState, Change]:
    """Return the transition of a run that ends before its worker has started.

    By then the run that it resumes is resolved, so the partial step belongs to this run:
    it ends as partial, and its database stays locked. A transition that sets the steps has
    examined them already, and a transition of an ended run is its resolution.
    """
    is_resolved = before.state in ENDED_STATES
    if is_resolved or to not in ENDED_STATES or change.steps is not None:
        return to, change
    steps = run_record(before).steps
    if not steps or steps[0].done_operations is None:
        return to, change
    if before.resumes:
        stopped = Run.objects.using(before._state.db).filter(pk=before.resumes)
        owns_step = stopped.filter(state=RunState.RESOLVED, outcome=RESUMED).exists()
        if before.state == RunState.AWAITING_APPROVAL or not owns_step:
            return to, change
    first = replace(steps[0], state=StepState.PARTIAL)
    return RunState.PARTIAL, replace(change, steps=(first, *steps[1:]))


def _columns(before: Run, to: RunState, change: Change) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "state": to,
        "waiting_reason": change.waiting_reason,
        "waiting_until": change.waiting_until,
        "waiting_facts": json.dumps(change.waiting_facts) if change.waiting_facts else "",
        "heartbeat_at": DatabaseNow(),
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
    """Return the entry that records a transition."""
    return Draft(
        action=change.action,
        actor_kind=change.actor_kind,
        actor_name=change.actor_name,
        address=change.address,
        database=before.database,
        run=before.id,
        build=change.columns.get("build", before.build),
        facts={
            "from": before.state,
            "to": to,
            "outcome": change.outcome or "",
            "waiting": change.waiting_reason,
            "reason": change.reason,
            **({"credential": change.credential} if change.credential else {}),
            **change.entry_facts,
            "error": change.error and change.error.to_dict(),
            "steps": None
            if change.steps is None
            else [[step.app, step.name, step.state] for step in change.steps],
        },
    )


def update_waiting(run: str, claim: str, facts: dict[str, Any]) -> None:
    """Update what a waiting run waits for; no entry is written.

    Raises `ClaimLost`.
    """
    _update_claimed_row(
        run, claim, {"state": RunState.WAITING}, waiting_facts=json.dumps(facts)
    )


def update_paused(run: str, claim: str, facts: dict[str, Any], until: str) -> None:
    """Update which health signals pause a run, and the time of the next check.

    No entry is written. Raises `ClaimLost`.
    """
    only_if = {"state": RunState.PAUSED, "waiting_reason": WaitingReason.HEALTH}
    _update_claimed_row(
        run, claim, only_if, waiting_facts=json.dumps(facts), waiting_until=until
    )


def clear_control(run: str, claim: str, word: ControlRequest) -> None:
    """Clear a control request that was executed. Raises `ClaimLost`."""
    _update_claimed_row(run, claim, {"control_request": word}, control_request="")


def _update_claimed_row(
    run: str, claim: str, only_if: dict[str, Any], **columns: Any
) -> None:
    """Write columns of a row that still has the expected values, under the claim."""
    alias = route_settings().ledger_database
    with ledger_connection(alias), ledger_transaction(alias):
        renew_claim(run, claim)
        Run.objects.using(alias).filter(pk=run, **only_if).update(**columns)


def set_scheduled(run: RunRecord, waiting: WaitInfo) -> RunRecord:
    """Make a claimed run wait for its scheduled start, with the reason and the time.

    Raises `InvalidState` when the claim has changed.
    """
    before = WaitInfo(
        reason=run.waiting_reason,  # type: ignore[arg-type]
        until=run.waiting_until,
        facts=run.waiting_facts,
    )
    if run.waits_to_begin and before == waiting:
        return run
    change = Change(
        waiting_reason=waiting.reason,
        waiting_until=waiting.until,
        waiting_facts=waiting.facts,
        only_if={"claimed_by": run.claimed_by},
    )
    return move(
        run.id,
        to=RunState.WAITING,
        expected={RunState.QUEUED, RunState.WAITING},
        change=change,
    )


def revoke_claim(run: RunRecord, *, tries: int) -> bool:
    """Revoke the claim of a process that is gone.

    Of several concurrent callers, one succeeds and gets True.
    """
    facts: dict[str, Any] = {**run.waiting_facts, "tries": tries}
    change = Change(
        reason="The process of this run is gone; another process may claim it.",
        waiting_reason=run.waiting_reason,
        waiting_until=run.waiting_until,
        waiting_facts=facts if run.waits_to_begin else {},
        columns={"claimed_by": "", "supervisor_pid": None},
        only_if={
            "claimed_by": run.claimed_by,
            "heartbeat_at": run.heartbeat_at,
            "waiting_reason": run.waiting_reason,
        },
    )
    try:
        move(run.id, to=run.state, expected={run.state}, change=change)
    except InvalidState:
        return False
    return True
