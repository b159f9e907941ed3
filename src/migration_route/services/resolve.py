"""Resolves partial runs, and continues the rest of a partial step in a new run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from migration_route.access.actors import Actor, authorise
from migration_route.core.enums import Action, Resolution, RunState, Scope, StepState
from migration_route.core.errors import (
    InvalidRequest,
    InvalidState,
    PlanChanged,
    Refused,
    RouteError,
)
from migration_route.execution.launchers import launch
from migration_route.execution.recovery import reconcile
from migration_route.ledger import runs
from migration_route.ledger.records import RunRecord, StepRecord
from migration_route.ledger.step_evidence import OperationEvidence
from migration_route.planning.plan import Plan
from migration_route.policy.decision import Denied, NeedsApproval, scopes_for
from migration_route.services import apply as applying
from migration_route.services.audit import audited
from migration_route.services.plans import plan_for_decision, request_of
from migration_route.services.release import (
    close_resumed_run,
    outdated_run,
    resolution_change,
    resume_point,
)
from migration_route.services.runs import show


def resume(found: RunRecord, actor: Actor, change: runs.Change) -> RunRecord:
    """Start a new run of the remaining operations and steps; return it.

    `change` is written to the stopped run; if the new run needs approval, the stopped run
    stays unchanged until then. Raises `PlanChanged` when the migration is not the one that
    stopped, `Refused` with the evidence when it is not proved at which operation to
    continue, and what `apply` raises.
    """
    scopes = scopes_for(direction=found.direction, mode=found.mode)
    authorise(actor, *scopes, database=found.database)
    _, step = reconcile.interrupted_step(found)
    plan, has_all_details = plan_for_decision(request_of(found), actor.kind)
    request = applying.ApplyRequest(
        database=found.database,
        targets=found.targets,
        mode=found.mode,
        phase=found.phase,
        fingerprint=plan.fingerprint,
        reason=change.reason,
        rebuild_invalid_indexes=True,  # the interrupted operation may have left one
    )
    decision = applying.decide_on(
        plan, request, actor, has_all_details=has_all_details, resolving=found.id
    )
    if isinstance(decision, Denied):
        raise decision.error
    with reconcile.hold_database_lock(found.database):
        _require_same_migration(plan, step)
        carried_out = resume_point(found, step)
        run, _ = applying.create_run(
            decision,
            request,
            actor,
            outdated=outdated_run(found.database),
            carried_out=carried_out,
            resumes=found.id if isinstance(decision, NeedsApproval) else "",
        )
        if isinstance(decision, NeedsApproval):
            return run
        facts = resolution_change(run, carried_out)
        close_resumed_run(
            found.id,
            run,
            replace(change, outcome=facts.outcome, entry_facts=facts.entry_facts),
        )
    launch(decision, run)
    return run


def _require_same_migration(plan: Plan, step: StepRecord) -> None:
    first = plan.steps[0] if plan.steps else None
    wanted = (step.app, step.name, step.direction, step.digest)
    if first is None or (first.app, first.name, first.direction, first.digest) != wanted:
        raise PlanChanged(
            f"The first step of the plan is no longer {step.label} as it was when the run "
            "stopped.",
            hint="Repair the database by hand, resolve the run as it is, and review the "
            "plan again.",
        )


def resolve(
    run: str, actor: Actor, *, reason: str, how: Resolution = Resolution.AS_IS
) -> RunRecord:
    """Resolve a partial run and unlock its database.

    As it is: nothing is written to the database. As applied or reverted: the migration
    recorder is updated, unless the catalog contradicts it. To continue: a new run starts
    after the last operation that is present, and is returned.

    Raises `InvalidState` unless the run is `partial`, and `Refused` with the evidence.
    """
    with audited(actor, "resolve", run=run):
        found = show(run, actor)
        authorise(actor, Scope.RESOLVE, database=found.database)
        if not reason.strip():
            raise InvalidRequest(
                "A resolution needs a reason.", hint="State what was repaired, and how."
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
            return _move(found, change, _facts(how, _stored_evidence(found)))
        if found.state is not RunState.PARTIAL:
            raise InvalidState(
                f"Run {run} is {found.state}; this action needs a run that is partial.",
                run=run,
                state=found.state,
            )
        if how is Resolution.CONTINUE:
            return resume(found, actor, change)
        with reconcile.hold_database_lock(found.database):
            return _record(found, change, how)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolutionOptions:
    """What the database says now about the stopped step of a partial run."""

    evidence: tuple[OperationEvidence, ...]
    impossible: Mapping[Resolution, str]  # the resolutions that would be refused, and why


def options(found: RunRecord, actor: Actor) -> ResolutionOptions:
    """Return which resolutions of a partial run are possible, by the current catalog.

    Nothing is locked or written: `resolve` checks again. Raises `Forbidden`.
    """
    with audited(actor, "show", run=found.id):
        authorise(actor, Scope.RESOLVE, database=found.database)
        try:
            _, step = reconcile.interrupted_step(found)
            reading = reconcile.compare_with_catalog(found, step)
        except RouteError as error:
            others = (Resolution.APPLIED, Resolution.REVERTED, Resolution.CONTINUE)
            return ResolutionOptions(
                evidence=tuple(_stored_evidence(found)),
                impossible=dict.fromkeys(others, error.message),
            )
        impossible = {}
        for how in (Resolution.APPLIED, Resolution.REVERTED):
            applied = how is Resolution.APPLIED
            if against := reconcile.contradictions(step, reading, applied=applied):
                first = against[0]
                impossible[how] = (
                    f"Operation {first.position + 1} ({first.description}) is "
                    f"{first.state} in the database."
                )
        _, reason = reconcile.resume_position(step, reading)
        if reason:
            impossible[Resolution.CONTINUE] = reason
        return ResolutionOptions(
            evidence=reconcile.current_evidence(step, reading), impossible=impossible
        )


def _record(found: RunRecord, change: runs.Change, how: Resolution) -> RunRecord:
    """Update the migration recorder, unless the catalog contradicts the resolution."""
    position, step = reconcile.interrupted_step(found)
    applied = how is Resolution.APPLIED
    reading = reconcile.compare_with_catalog(found, step)
    evidence = reconcile.current_evidence(step, reading)
    if contradictions := reconcile.contradictions(step, reading, applied=applied):
        first = contradictions[0]
        raise Refused(
            f"{step.label} cannot be resolved as {how}: in the database, operation "
            f"{first.position + 1} ({first.description}) is {first.state}.",
            hint="Repair the listed operations, or choose another resolution.",
            run=found.id,
            operations=_as_dicts(evidence),
        )
    reconcile.set_recorded(found.database, step, applied=applied)
    state = StepState.APPLIED if applied else StepState.REVERTED
    resolved = replace(step, state=state, operations=evidence)
    steps = (*found.steps[:position], resolved, *found.steps[position + 1 :])
    change = replace(change, outcome=f"recorded_{how}", steps=steps)
    return _move(found, change, _facts(how, evidence))


def _move(found: RunRecord, change: runs.Change, facts: dict[str, Any]) -> RunRecord:
    return runs.move(
        found.id,
        to=RunState.RESOLVED,
        expected={RunState.PARTIAL},
        change=replace(change, entry_facts=facts),
    )


def _stored_evidence(found: RunRecord) -> Iterable[OperationEvidence]:
    return next((step.operations for step in found.steps if step.operations), ())


def _facts(how: Resolution, evidence: Iterable[OperationEvidence]) -> dict[str, Any]:
    return {"how": how, "operations": _as_dicts(evidence)}


def _as_dicts(evidence: Iterable[OperationEvidence]) -> list[dict[str, Any]]:
    return [operation.to_dict() for operation in evidence]
