"""How does a run go from state to state?

Every transition is a compare-and-set with its entry in one transaction, on a
connection of the ledger's own.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from migration_route import clock
from migration_route.canonical import canonical_json
from migration_route.conf import route_settings
from migration_route.connecting import PATIENCE, ledger_connection, ledger_transaction
from migration_route.errors import (
    NotInThisState,
    UnknownRun,
)
from migration_route.ledger.database_time import DatabaseNow
from migration_route.ledger.entries import Draft, append, retrying, take_in_what_was_left
from migration_route.ledger.fencing import renew_claim
from migration_route.ledger.records import (
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
    RunState,
    StepState,
)

RESUMED = "resumed"
"""The outcome of a run whose step another run carries on with."""


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
    credential: dict[str, Any] = field(default_factory=dict)  # what a machine has shown
    reason: str = ""
    action: Action = Action.RUN_STATE
    claim: str | None = None  # of the process that writes; None: it is not the run's own
    columns: dict[str, Any] = field(default_factory=dict)
    only_if: dict[str, Any] = field(default_factory=dict)  # columns that must be so still
    vouching: dict[str, Any] = field(default_factory=dict)  # for the events of the run


def move(
    run: str,
    *,
    to: RunState,
    expected: Collection[RunState],
    change: Change | None = None,
    patience: float = PATIENCE,
) -> RunRecord:
    """Move a run to another state if it is in one of the expected ones.

    Raises `NotInThisState`, with the state that it is in, `UnknownRun`, and `ClaimLost`
    where the change is made by a process of the run that does not hold its claim.
    """
    change = change or Change()
    alias = route_settings().ledger_database
    take_in_what_was_left(patience=patience)
    with ledger_connection(alias, patience=patience):
        return retrying(  # type: ignore[no-any-return]
            lambda: _move_once(alias, run, to, expected, change)
        )


def _move_once(
    alias: str, run: str, to: RunState, expected: Collection[RunState], change: Change
) -> RunRecord:
    with ledger_transaction(alias):
        return moved(alias, run, to, expected, change)


def moved(
    alias: str, run: str, to: RunState, expected: Collection[RunState], change: Change
) -> RunRecord:
    """Do what `move` does, once, in the transaction that the caller has open."""
    rows = Run.objects.using(alias).filter(pk=run)
    before = locked_row(alias, run)
    if change.claim is not None:
        renew_claim(run, change.claim)
    to, change = _with_what_it_resumes(before, to, change)
    # The row is locked, so the state that the entry names is the one that is replaced.
    fitting = rows.filter(state=before.state, **change.only_if)
    if before.state not in expected or not fitting.update(**_columns(before, to, change)):
        raise NotInThisState(
            f"Run {run} is {before.state}; this can be done while it is "
            f"{' or '.join(sorted(expected))}.",
            run=run,
            state=before.state,
        )
    append(state_entry(before, to, change))
    return run_record(rows.get())


def locked_row(alias: str, run: str) -> Run:
    """Return the row of a run, locked until the caller's transaction ends.

    A transaction on SQLite holds the whole file from its start. Raises `UnknownRun`.
    """
    row = Run.objects.using(alias).select_for_update().filter(pk=run).first()
    if row is None:
        raise UnknownRun(f"There is no run {run!r}.")
    return row


def _with_what_it_resumes(
    before: Run, to: RunState, change: Change
) -> tuple[RunState, Change]:
    """Return the transition of a run that ends before its worker has begun.

    The run that it resumes is resolved by then, so that the step which that one left
    midway is this run's: the run ends as partial, and its database stays locked. A
    transition that brings the steps of a run has looked at them already, and one of a run
    that has ended is its resolution.
    """
    is_resolved = before.state in ENDED_STATES
    if is_resolved or to not in ENDED_STATES or change.steps is not None:
        return to, change
    steps = run_record(before).steps
    if not steps or steps[0].done_operations is None:
        return to, change
    if before.resumes:
        stopped = Run.objects.using(before._state.db).filter(pk=before.resumes)
        is_its_own = stopped.filter(state=RunState.RECONCILED, outcome=RESUMED).exists()
        if before.state == RunState.AWAITING_APPROVAL or not is_its_own:
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
    """Return the line that tells of a transition."""
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
            **change.vouching,
            "error": change.error and change.error.to_dict(),
            "steps": None
            if change.steps is None
            else [[step.app, step.name, step.state] for step in change.steps],
        },
    )
