"""Say what becomes of the step that a run left midway."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.errors import InvalidRequest, NotInThisState, Refused
from migration_route.ledger import runs
from migration_route.ledger.records import OperationEvidence, RunRecord
from migration_route.operations.recording import on_record
from migration_route.operations.resume import resume
from migration_route.operations.runs import show
from migration_route.running.recovery import reconciling
from migration_route.vocabulary import Action, Resolution, RunState, Scope, StepState


def resolve(
    run: str, actor: Actor, *, reason: str, how: Resolution = Resolution.AS_IS
) -> RunRecord:
    """Open a database again that a run had left in between.

    As it is: nothing is written to the database itself. As applied or reverted: the
    recorder says so, where the catalog does not say the opposite. To resume: a new run
    goes on behind the last operation that is in, and is what is returned.

    Raises `NotInThisState` unless the run is `partial`, and `Refused` with the evidence.
    """
    with on_record(actor, "resolve", run=run):
        found = show(run, actor)
        authorise(actor, Scope.RESOLVE, database=found.database)
        if not reason.strip():
            raise InvalidRequest(
                "A resolution needs a reason.", hint="Say what was put right, and how."
            )
        change = runs.Change(
            action=Action.RESOLVED,
            outcome="resolved",
            actor_kind=actor.kind,
            actor_name=actor.name,
            address=actor.address,
            credential=actor.credential_facts,
            reason=reason,
        )
        if how is Resolution.AS_IS:
            return _move(found, change, _facts(how, _known(found)))
        if found.state is not RunState.PARTIAL:
            raise NotInThisState(
                f"Run {run} is {found.state}; this can be done while it is partial.",
                run=run,
                state=found.state,
            )
        if how is Resolution.RESUME:
            return resume(found, actor, change)
        with reconciling.held(found.database):
            return _record(found, change, how)


def _record(found: RunRecord, change: runs.Change, how: Resolution) -> RunRecord:
    """Let the recorder say what is so, if the catalog does not disagree."""
    position, step = reconciling.step_left(found)
    applied = how is Resolution.APPLIED
    reading = reconciling.reading_of(found, step)
    evidence = reconciling.evidence_now(step, reading)
    if against := reconciling.contradictions(step, reading, applied=applied):
        first = against[0]
        raise Refused(
            f"The database does not look as if {step.label} were {how}: operation "
            f"{first.position + 1} ({first.description}) is {first.state}.",
            hint="Put right what is named in the facts, or resolve in another way.",
            run=found.id,
            operations=_words(evidence),
        )
    reconciling.record(found.database, step, applied=applied)
    state = StepState.APPLIED if applied else StepState.REVERTED
    settled = replace(step, state=state, operations=evidence)
    steps = (*found.steps[:position], settled, *found.steps[position + 1 :])
    change = replace(change, outcome=f"recorded_{how}", steps=steps)
    return _move(found, change, _facts(how, evidence))


def _move(found: RunRecord, change: runs.Change, facts: dict[str, Any]) -> RunRecord:
    return runs.move(
        found.id,
        to=RunState.RECONCILED,
        expected={RunState.PARTIAL},
        change=replace(change, vouching=facts),
    )


def _known(found: RunRecord) -> Iterable[OperationEvidence]:
    return next((step.operations for step in found.steps if step.operations), ())


def _facts(how: Resolution, evidence: Iterable[OperationEvidence]) -> dict[str, Any]:
    return {"how": how, "operations": _words(evidence)}


def _words(evidence: Iterable[OperationEvidence]) -> list[dict[str, Any]]:
    return [found.to_dict() for found in evidence]
