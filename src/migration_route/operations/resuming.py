"""Where does a run go on that resumes another one, and what becomes of that?"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from migration_route.errors import PlanChanged, Refused
from migration_route.ledger import runs
from migration_route.ledger.reading import find_run
from migration_route.ledger.records import CarriedOut, RunRecord, StepError, StepRecord
from migration_route.running.recovery import reconciling
from migration_route.vocabulary import Action, RunState


def go_on_at(found: RunRecord, step: StepRecord) -> CarriedOut:
    """Return what has been carried out of a step that is to be resumed; the caller holds
    the database. Raises `Refused` with the evidence where that is not proved."""
    reading = reconciling.reading_of(found, step)
    evidence = reconciling.evidence_now(step, reading)
    done, why_not = reconciling.first_to_resume(step, reading)
    if why_not:
        raise Refused(
            f"{step.label} cannot be resumed. {why_not}",
            hint="Put the database right by hand, then resolve as applied, as reverted "
            "or as it is.",
            run=found.id,
            operations=[one.to_dict() for one in evidence],
        )
    return CarriedOut(
        count=done, added=reconciling.added_to_resume(step), evidence=evidence
    )


@contextmanager
def held_to_resume(run: RunRecord) -> Iterator[runs.Change | None]:
    """Hold the database of a run that waited for approval to resume another one, and give
    what is to be written to that one; None where it has been written already.

    Raises `PlanChanged` where it would not go on at the operation that was approved.
    """
    with reconciling.held(run.database):
        found = find_run(run.resumes)
        if found.state is RunState.PARTIAL:
            _, step = reconciling.step_left(found)
            carried_out = go_on_at(found, step)
            if carried_out.count != run.steps[0].done_operations:
                raise PlanChanged(f"{step.label} is not where it was any more.")
            yield change_for(run, carried_out)
        elif found.outcome == runs.RESUMED:
            yield None
        else:
            raise PlanChanged(f"Run {found.id} has been resolved in another way.")


def change_for(run: RunRecord, carried_out: CarriedOut) -> runs.Change:
    """Return what is written to the run that another one resumes, in the name of whoever
    has asked for that."""
    return runs.Change(
        action=Action.RESOLVED,
        outcome=runs.RESUMED,
        actor_kind=run.actor_kind,
        actor_name=run.actor_name,
        reason=run.reason,
        vouching={
            "how": "resume",
            "operations": [one.to_dict() for one in carried_out.evidence],
            "resumed_by": run.id,
        },
    )


def settle(stopped: str, run: RunRecord, change: runs.Change) -> None:
    """End the run that stopped; where somebody else has, the new one does not begin."""
    try:
        runs.move(
            stopped, to=RunState.RECONCILED, expected={RunState.PARTIAL}, change=change
        )
    except Exception:
        error = StepError(type="NotResumed", message=f"Run {stopped} was not resolved.")
        runs.move(
            run.id,
            to=RunState.FAILED,
            expected={RunState.QUEUED, RunState.WAITING},
            change=runs.Change(outcome="launch_failed", error=error, steps=run.steps),
        )
        raise
