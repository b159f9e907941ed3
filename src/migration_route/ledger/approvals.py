"""Records approvals and rejections of runs.

The row of the run is locked first, so that of two concurrent votes the second one sees the
first. The vote, its entry and the change of the run are one transaction. A vote is never
changed afterwards.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from migration_route.conf.databases import PATIENCE
from migration_route.core import clock
from migration_route.core.canonical_json import canonical_json
from migration_route.core.enums import Action, ActorKind, ApprovalDecision, RunState
from migration_route.core.errors import InvalidState, UnknownRun
from migration_route.core.redaction import redact
from migration_route.core.values import ApprovalRequirement
from migration_route.ledger.entries import Draft, absorb_spool, append, write_transaction
from migration_route.ledger.records import RunRecord, run_record
from migration_route.ledger.runs import Change, move_in_transaction
from migration_route.models import Approval, Run

_AWAITING = RunState.AWAITING_APPROVAL


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalVote:
    """The vote of one actor on a run."""

    actor_kind: ActorKind
    actor_name: str
    actor_key: str  # survives a rename of the actor
    address: str
    permissions: frozenset[str]  # those that were required, and that the actor had
    reason: str


def record_approval(
    run: str, saying: ApprovalVote, *, approval_requirement: ApprovalRequirement, until: str
) -> RunRecord:
    """Record an approval, and the current approval requirement of the run.

    A second approval by the same actor has no effect. Raises `InvalidState` unless the run
    waits for approval, and `UnknownRun`.
    """
    absorb_spool(patience=PATIENCE)
    return write_transaction(
        lambda alias: _approve_once(alias, run, saying, approval_requirement, until)
    )


def reject(run: str, saying: ApprovalVote) -> RunRecord:
    """Record a rejection and end the run. Raises `InvalidState` and `UnknownRun`."""
    absorb_spool(patience=PATIENCE)
    return write_transaction(lambda alias: _reject_once(alias, run, saying))


def _approve_once(
    alias: str, run: str, saying: ApprovalVote, requirement: ApprovalRequirement, until: str
) -> RunRecord:
    rows = Run.objects.using(alias).filter(pk=run)
    text = canonical_json(requirement.to_dict())
    if not rows.filter(state=_AWAITING).update(
        approval_requirement=text, waiting_until=until
    ):
        raise _not_awaiting(alias, run)
    row = rows.get()
    if _has_approved(alias, run, saying):
        return run_record(row)
    _insert(alias, row, saying, ApprovalDecision.APPROVE)
    append(
        Draft(
            action=Action.APPROVED,
            actor_kind=saying.actor_kind,
            actor_name=saying.actor_name,
            address=saying.address,
            database=row.database,
            run=run,
            build=row.build,
            facts={
                "fingerprint": row.fingerprint,
                "actor_key": saying.actor_key,
                "reason": saying.reason,
                "permissions": sorted(saying.permissions),
                "required": requirement.required,
            },
        )
    )
    return run_record(row)  # with this approval


def _reject_once(alias: str, run: str, saying: ApprovalVote) -> RunRecord:
    row = Run.objects.using(alias).filter(pk=run).first()
    if row is None:
        raise UnknownRun
    change = Change(
        action=Action.REJECTED,
        outcome="rejected",
        actor_kind=saying.actor_kind,
        actor_name=saying.actor_name,
        address=saying.address,
        reason=saying.reason,
        entry_facts={"fingerprint": row.fingerprint, "actor_key": saying.actor_key},
    )
    move_in_transaction(alias, run, RunState.REJECTED, {_AWAITING}, change)
    _insert(alias, row, saying, ApprovalDecision.REJECT)
    return run_record(Run.objects.using(alias).get(pk=run))


def _has_approved(alias: str, run: str, saying: ApprovalVote) -> bool:
    return (
        Approval.objects.using(alias)
        .filter(
            run=run,
            decision=ApprovalDecision.APPROVE,
            actor_kind=saying.actor_kind,
            actor_key=saying.actor_key,
        )
        .exists()
    )


def _insert(alias: str, row: Run, saying: ApprovalVote, decision: ApprovalDecision) -> None:
    Approval(
        run=row.pk,
        fingerprint=row.fingerprint,
        decision=decision,
        actor_kind=saying.actor_kind,
        actor_name=saying.actor_name,
        actor_key=saying.actor_key,
        address=saying.address,
        permissions=json.dumps(sorted(saying.permissions)),
        reason=redact(saying.reason),
        at=clock.now(),
    ).save(using=alias, force_insert=True)


def _not_awaiting(alias: str, run: str) -> InvalidState | UnknownRun:
    state = Run.objects.using(alias).filter(pk=run).values_list("state", flat=True).first()
    if state is None:
        return UnknownRun()
    return InvalidState(
        f"Run {run} is {state} and does not wait for approval.", run=run, state=state
    )
