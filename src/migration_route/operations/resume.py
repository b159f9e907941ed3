"""Go on inside of the migration that a run left midway."""

from __future__ import annotations

from dataclasses import replace

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.deciding.policy import NeedsApproval, Refusal, scopes_for
from migration_route.errors import PlanChanged
from migration_route.ledger import runs
from migration_route.ledger.records import RunRecord, StepRecord
from migration_route.operations import apply as applying
from migration_route.operations.resuming import change_for, go_on_at, settle
from migration_route.operations.weighing import plan_to_decide, request_of
from migration_route.planning.plan import Plan
from migration_route.running.recovery import reconciling


def resume(found: RunRecord, actor: Actor, change: runs.Change) -> RunRecord:
    """Start a new run that carries out what is left; return it.

    `change` is what is written to the run that stopped; where the new one has to be
    approved first, that run stays as it is until then. Raises `PlanChanged` where the
    migration is not the one that stopped, `Refused` with the evidence where it is not
    proved at which operation to go on, and what `apply` raises.
    """
    scopes = scopes_for(direction=found.direction, mode=found.mode)
    authorise(actor, *scopes, database=found.database)
    _, step = reconciling.step_left(found)
    plan, all_told = plan_to_decide(request_of(found), actor.kind)
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
    if isinstance(decision, Refusal):
        raise decision.error
    with reconciling.held(found.database):
        _refuse_another(plan, step)
        carried_out = go_on_at(found, step)
        if isinstance(decision, NeedsApproval):
            return applying.open_waiting(
                plan, decision, request, actor, carried_out=carried_out, resumes=found.id
            )
        run = applying.open_permitted(decision, request, actor, carried_out=carried_out)
        facts = change_for(run, carried_out)
        settle(
            found.id, run, replace(change, outcome=facts.outcome, vouching=facts.vouching)
        )
    applying.launch(decision, run)
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
