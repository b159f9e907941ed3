"""Say what becomes of the step that a run left midway.

Go on inside of the migration that a run left midway.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from migration_route.access.actors import Actor, authorise
from migration_route.core.enums import Action, Resolution, RunState, Scope, StepState
from migration_route.core.errors import InvalidRequest, InvalidState, PlanChanged, Refused
from migration_route.execution.recovery import reconcile
from migration_route.ledger import runs
from migration_route.ledger.evidence import OperationEvidence
from migration_route.ledger.records import RunRecord, StepRecord
from migration_route.planning.plan import Plan
from migration_route.policy.decision import Denied, NeedsApproval, scopes_for
from migration_route.services import apply as applying
from migration_route.services.audit import audited
from migration_route.services.decisions import plan_for_decision, request_of
from migration_route.services.launch import launch
from migration_route.services.release import change_for, close_resumed_run, resume_point
from migration_route.services.runs import show


def resume(found: RunRecord, actor: Actor, change: runs.Change) -> RunRecord:
    """Start a new run that carries out what is left; return it.

    `change` is what is written to the run that stopped; where the new one has to be
    approved first, that run stays as it is until then. Raises `PlanChanged` where the
    migration is not the one that stopped, `Refused` with the evidence where it is not
    proved at which operation to go on, and what `apply` raises.
    """
    scopes = scopes_for(direction=found.direction, mode=found.mode)
    authorise(actor, *scopes, database=found.database)
    _, step = reconcile.interrupted_step(found)
    plan, all_told = plan_for_decision(request_of(found), actor.kind)
    request = applying.ApplyRequest(
        database=found.database,
        targets=found.targets,
        mode=found.mode,
        phase=found.phase,
        fingerprint=plan.fingerprint,
        reason=change.reason,
        rebuild_invalid_indexes=True,  # one that the next operation has left
    )
    decision = applying.decide_on(
        plan, request, actor, all_told=all_told, resolving=found.id
    )
    if isinstance(decision, Denied):
        raise decision.error
    with reconcile.hold_database_lock(found.database):
        _refuse_another(plan, step)
        carried_out = resume_point(found, step)
        if isinstance(decision, NeedsApproval):
            return applying.create_awaiting_approval(
                plan, decision, request, actor, carried_out=carried_out, resumes=found.id
            )
        run = applying.create_resuming(decision, request, actor, carried_out=carried_out)
        facts = change_for(run, carried_out)
        close_resumed_run(
            found.id, run, replace(change, outcome=facts.outcome, vouching=facts.vouching)
        )
    launch(decision, run)
    return run


def _refuse_another(plan: Plan, step: StepRecord) -> None:
    first = plan.steps[0] if plan.steps else None
    wanted = (step.app, step.name, step.direction, step.digest)
    if first is None or (first.app, first.name, first.direction, first.digest) != wanted:
        raise PlanChanged(
            f"The first step of the plan is not {step.label} as it was when it stopped.",
            hint="Put the database right by hand, resolve as it is, and read the plan "
            "again.",
        )


def resolve(
    run: str, actor: Actor, *, reason: str, how: Resolution = Resolution.AS_IS
) -> RunRecord:
    """Open a database again that a run had left in between.

    As it is: nothing is written to the database itself. As applied or reverted: the
    recorder says so, where the catalog does not say the opposite. To resume: a new run
    goes on behind the last operation that is in, and is what is returned.

    Raises `NotInThisState` unless the run is `partial`, and `Refused` with the evidence.
    """
    with audited(actor, "resolve", run=run):
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
            raise InvalidState(
                f"Run {run} is {found.state}; this can be done while it is partial.",
                run=run,
                state=found.state,
            )
        if how is Resolution.RESUME:
            return resume(found, actor, change)
        with reconcile.hold_database_lock(found.database):
            return _record(found, change, how)


def _record(found: RunRecord, change: runs.Change, how: Resolution) -> RunRecord:
    """Let the recorder say what is so, if the catalog does not disagree."""
    position, step = reconcile.interrupted_step(found)
    applied = how is Resolution.APPLIED
    reading = reconcile.compare_with_catalog(found, step)
    evidence = reconcile.evidence_now(step, reading)
    if against := reconcile.contradictions(step, reading, applied=applied):
        first = against[0]
        raise Refused(
            f"The database does not look as if {step.label} were {how}: operation "
            f"{first.position + 1} ({first.description}) is {first.state}.",
            hint="Put right what is named in the facts, or resolve in another way.",
            run=found.id,
            operations=_words(evidence),
        )
    reconcile.set_recorded(found.database, step, applied=applied)
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
