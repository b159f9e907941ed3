"""Go on inside of the migration that a run left midway."""

from __future__ import annotations

from dataclasses import replace

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise
from migration_route.deciding.policy import NeedsApproval, Refusal, scopes_for
from migration_route.errors import PlanChanged, Refused
from migration_route.ledger import runs
from migration_route.ledger.records import RunRecord, StepError, StepRecord
from migration_route.operations import apply as applying
from migration_route.operations.plan import plain_plan
from migration_route.planning.plan import Plan, PlanRequest
from migration_route.running.recovery import reconciling
from migration_route.vocabulary import RunState


def resume(found: RunRecord, actor: Actor, change: runs.Change) -> RunRecord:
    """Start a new run that carries out what is left; return it.

    `change` is what is written to the run that stopped. Raises `PlanChanged` where the
    migration is not the one that stopped, `Refused` with the evidence where it is not
    proved at which operation to go on, and what `apply` raises.
    """
    scopes = scopes_for(direction=found.direction, mode=found.mode)
    authorise(actor, *scopes, database=found.database)
    _, step = reconciling.step_left(found)
    plan = plain_plan(
        PlanRequest(
            database=found.database,
            targets=found.targets,
            mode=found.mode,
            phase=found.phase,
        )
    )
    request = applying.ApplyRequest(
        database=found.database,
        targets=found.targets,
        mode=found.mode,
        phase=found.phase,
        fingerprint=plan.fingerprint,
        reason=change.reason,
        rebuild_invalid_indexes=True,  # one that the next operation has left
    )
    permit = applying.decide_on(plan, request, resolving=found.id)
    if isinstance(permit, NeedsApproval | Refusal):
        raise permit.error
    with reconciling.held(found.database):
        _refuse_another(plan, step)
        reading = reconciling.reading_of(found, step)
        evidence = [one.to_dict() for one in reconciling.evidence_now(step, reading)]
        done, why_not = reconciling.first_to_resume(step, reading)
        if why_not:
            raise Refused(
                f"{step.label} cannot be resumed. {why_not}",
                hint="Put the database right by hand, then resolve as applied, as reverted "
                "or as it is.",
                run=found.id,
                operations=evidence,
            )
        run = applying.open_permitted(permit, request, actor, done_operations=done)
        facts = {"how": "resume", "operations": evidence, "resumed_by": run.id}
        _settle(found, run, replace(change, outcome="resumed", vouching=facts))
    applying.launch(permit, run)
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


def _settle(found: RunRecord, run: RunRecord, change: runs.Change) -> None:
    """End the run that stopped; where somebody else has, the new one does not begin."""
    try:
        runs.move(
            found.id, to=RunState.RECONCILED, expected={RunState.PARTIAL}, change=change
        )
    except Exception:
        error = StepError(type="NotResumed", message=f"Run {found.id} was not resolved.")
        runs.move(
            run.id,
            to=RunState.FAILED,
            expected={RunState.QUEUED, RunState.WAITING},
            change=runs.Change(outcome="launch_failed", error=error),
        )
        raise
