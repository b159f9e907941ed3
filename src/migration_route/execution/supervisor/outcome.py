"""Determines how a run ended: a pure comparison of what the worker reported with what the
recorder of Django has.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from migration_route.core.enums import (
    ControlRequest,
    Direction,
    EffectState,
    RunState,
    StepState,
)
from migration_route.execution.messages import Ending
from migration_route.ledger.records import StepRecord
from migration_route.ledger.step_evidence import OperationEvidence, StepError

_FAILURES = {None: "interrupted", "lock_timeout": "lock_timeout"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """What is known of a worker that has ended."""

    ending: Ending | None  # None: it ended without a last message
    error: StepError | None = None
    current: int | None = None  # the position of the step under way
    touching: bool = False  # a writing statement of that step was sent
    wrote: bool = False  # a writing statement of that step completed
    carried_out: bool = False  # the same, for the last operation that started
    operations: tuple[OperationEvidence, ...] | None = None  # of that step; None: unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    state: RunState
    outcome: str
    steps: tuple[StepRecord, ...]
    error: StepError | None


def determine_outcome(
    steps: tuple[StepRecord, ...],
    recorded: Collection[tuple[str, str]],
    report: WorkerReport,
) -> Outcome:
    """Return the outcome. `recorded` was read on a fresh connection, after the worker had
    ended."""
    steps_now = tuple(
        _as_recorded(step, recorded, report if position == report.current else None)
        for position, step in enumerate(steps)
    )
    done = all(step.state in {StepState.APPLIED, StepState.REVERTED} for step in steps_now)
    if any(step.state is StepState.PARTIAL for step in steps_now):
        return Outcome(
            state=RunState.PARTIAL, outcome="partial", steps=steps_now, error=report.error
        )
    if report.ending == "plan_changed":
        return Outcome(
            state=RunState.STALE,
            outcome="plan_changed",
            steps=steps_now,
            error=report.error,
        )
    if report.ending == "stopped":
        return Outcome(
            state=RunState.CANCELLED, outcome="cancelled", steps=steps_now, error=None
        )
    if done and report.ending == "done":
        state = RunState.SUCCEEDED if steps_now else RunState.NOOP
        return Outcome(
            state=state, outcome=_success(steps_now), steps=steps_now, error=None
        )
    if report.ending == "done":
        return Outcome(
            state=RunState.FAILED,
            outcome="not_recorded",
            steps=steps_now,
            error=_missing(steps_now),
        )
    outcome = _FAILURES.get(report.ending, "failed")
    error = _unfinished(report.error) if done and steps_now else report.error
    return Outcome(state=RunState.FAILED, outcome=outcome, steps=steps_now, error=error)


def apply_cancellation(outcome: Outcome, why: str) -> Outcome:
    """Return how a stopped run ended.

    A run that a user cancelled is `cancelled` if nothing is left half done. One whose
    process received a shutdown signal has failed, and its error says so.
    """
    if outcome.state is RunState.FAILED and why in {
        ControlRequest.CANCEL,
        ControlRequest.FORCE,
    }:
        return replace(outcome, state=RunState.CANCELLED, outcome="cancelled", error=None)
    if outcome.state in {RunState.FAILED, RunState.CANCELLED} and why.startswith("SIG"):
        error = StepError(
            type="Interrupted",
            message=f"The supervisor received {why} before the run finished.",
        )
        return replace(outcome, state=RunState.FAILED, outcome="interrupted", error=error)
    return outcome


def as_concluded(
    outcome: Outcome,
    *,
    state: RunState,
    why: str,
    step: StepRecord | None,
    position: int | None,
) -> Outcome:
    """Return the outcome that a supervisor had determined before it was killed.

    `outcome` is what can be determined without the report of its worker. It is kept if
    Django's recorder shows the step at `position` as done by now.
    """
    if step is None or position is None:
        return replace(outcome, state=state, outcome=why, error=_error_of(outcome, state))
    found = outcome.steps[position]
    if found.state in {StepState.APPLIED, StepState.REVERTED}:
        return outcome
    found = replace(found, state=step.state, error=step.error)
    return replace(
        outcome,
        state=state,
        outcome=why,
        steps=(*outcome.steps[:position], found, *outcome.steps[position + 1 :]),
        error=step.error or _error_of(outcome, state),
    )


def _error_of(outcome: Outcome, state: RunState) -> StepError | None:
    return None if state is RunState.CANCELLED else outcome.error


def _as_recorded(
    step: StepRecord, recorded: Collection[tuple[str, str]], report: WorkerReport | None
) -> StepRecord:
    """Return the step as the recorder shows it; `report` is set for the step under way."""
    is_recorded = (step.app, step.name) in recorded
    backwards = step.direction is Direction.BACKWARDS
    if is_recorded is not backwards:
        state = StepState.REVERTED if backwards else StepState.APPLIED
        return replace(step, state=state, error=None, operations=None)
    if report is None:
        return replace(step, state=StepState.NOT_STARTED, duration_ms=None, error=None)
    is_midway = _is_midway(step, report)
    if report.ending == "stopped" and not is_midway:
        return replace(step, state=StepState.NOT_STARTED, duration_ms=None, error=None)
    state = StepState.PARTIAL if is_midway else StepState.FAILED
    return replace(step, state=state, error=report.error, operations=report.operations)


def _is_midway(step: StepRecord, report: WorkerReport) -> bool:
    """Return whether part of a step that is not recorded is present, or may be."""
    is_of_other_package = step.added.begun is not None and not step.added.repeatable
    if is_of_other_package and (report.carried_out or report.ending is None):
        return True  # an operation added by another package had started
    if report.operations is not None:
        states = {operation.state for operation in report.operations}
        if states & {EffectState.PRESENT, EffectState.PARTIAL}:
            return True
        if EffectState.UNKNOWN not in states:
            return False
        if step.rolls_back:
            return True  # it reached its end, and nothing shows whether it committed
    elif step.done_operations is not None:
        return True  # what the resumed run left is present
    # A worker that reported its end also reported its last completed statement. One that
    # did not may have died in the middle of a statement.
    midway = report.wrote if report.ending is not None else report.touching
    return midway and not step.rolls_back


def _unfinished(error: StepError | None) -> StepError | None:
    """Extend the error of a run whose steps are all done but whose `migrate` failed after
    them: Django creates content types and permissions when all migrations are applied."""
    if error is None:
        return None
    return replace(
        error,
        message=f"{error.message} Every step is recorded, but what migrate does after the "
        "last one, such as creating permissions, may be missing. Apply again.",
    )


def _success(steps: tuple[StepRecord, ...]) -> str:
    if not steps:
        return "noop"
    return "reverted" if steps[0].direction is Direction.BACKWARDS else "applied"


def _missing(steps: tuple[StepRecord, ...]) -> StepError:
    labels = [
        step.label
        for step in steps
        if step.state not in {StepState.APPLIED, StepState.REVERTED}
    ]
    return StepError(
        type="NotRecorded",
        message="migrate ended without an error, but django_migrations does not confirm "
        f"{', '.join(labels)}.",
    )
