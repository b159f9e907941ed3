"""How did a run end? A pure comparison of what was told with what the recorder says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from migration_route.core.enums import Direction, EffectState, RunState, StepState
from migration_route.execution.messages import Ending
from migration_route.ledger.evidence import OperationEvidence, StepError
from migration_route.ledger.records import StepRecord

_FAILURES = {None: "interrupted", "lock_timeout": "lock_timeout"}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """What is known of a worker that has ended."""

    ending: Ending | None  # None: it went without a word
    error: StepError | None = None
    current: int | None = None  # the position of the step that had begun and not ended
    touching: bool = False  # a writing statement of that step had been sent
    wrote: bool = False  # a writing statement of that step had been carried out
    carried_out: bool = False  # one of the operation that had begun last
    operations: tuple[OperationEvidence, ...] | None = None  # of that step; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a run ended."""

    state: RunState
    outcome: str
    steps: tuple[StepRecord, ...]
    error: StepError | None


def determine_outcome(
    steps: tuple[StepRecord, ...],
    recorded: Collection[tuple[str, str]],
    told: WorkerReport,
) -> Outcome:
    """Conclude. `recorded` was read on a fresh connection, after the worker had gone."""
    seen = tuple(
        _as_recorded(step, recorded, told if position == told.current else None)
        for position, step in enumerate(steps)
    )
    done = all(step.state in {StepState.APPLIED, StepState.REVERTED} for step in seen)
    if any(step.state is StepState.PARTIAL for step in seen):
        return Outcome(
            state=RunState.PARTIAL, outcome="partial", steps=seen, error=told.error
        )
    if told.ending == "plan_changed":
        return Outcome(
            state=RunState.STALE, outcome="plan_changed", steps=seen, error=told.error
        )
    if told.ending == "stopped":
        return Outcome(
            state=RunState.CANCELLED, outcome="cancelled", steps=seen, error=None
        )
    if done and told.ending == "done":
        state = RunState.SUCCEEDED if seen else RunState.NOOP
        return Outcome(state=state, outcome=_success(seen), steps=seen, error=None)
    if told.ending == "done":
        return Outcome(
            state=RunState.FAILED,
            outcome="not_recorded",
            steps=seen,
            error=_missing(seen),
        )
    outcome = _FAILURES.get(told.ending, "failed")
    error = _unfinished(told.error) if done and seen else told.error
    return Outcome(state=RunState.FAILED, outcome=outcome, steps=seen, error=error)


def _as_recorded(
    step: StepRecord, recorded: Collection[tuple[str, str]], told: WorkerReport | None
) -> StepRecord:
    """Return the step as the recorder shows it; `told` when it was under way."""
    is_recorded = (step.app, step.name) in recorded
    backwards = step.direction is Direction.BACKWARDS
    if is_recorded is not backwards:
        state = StepState.REVERTED if backwards else StepState.APPLIED
        return replace(step, state=state, error=None, operations=None)
    if told is None:
        return replace(step, state=StepState.NOT_STARTED, duration_ms=None, error=None)
    is_midway = _is_midway(step, told)
    if told.ending == "stopped" and not is_midway:
        return replace(step, state=StepState.NOT_STARTED, duration_ms=None, error=None)
    state = StepState.PARTIAL if is_midway else StepState.FAILED
    return replace(step, state=state, error=told.error, operations=told.operations)


def _is_midway(step: StepRecord, told: WorkerReport) -> bool:
    """Tell whether something of a step that is not recorded is there, or may be."""
    is_of_another = step.added.begun is not None and not step.added.repeatable
    if is_of_another and (told.carried_out or told.ending is None):
        return True  # an operation that another package has added had begun
    if told.operations is not None:
        found = {operation.state for operation in told.operations}
        if found & {EffectState.IN, EffectState.MIDWAY}:
            return True
        if EffectState.UNKNOWN not in found:
            return False
        if step.rolls_back:
            return True  # it had come to its end, and nothing shows if that was committed
    elif step.done_operations is not None:
        return True  # what the resumed run has left is there
    # The exception of a worker that still spoke: what failed was carried out or not.
    # One that went without a word may have been in the middle of a statement.
    midway = told.wrote if told.ending is not None else told.touching
    return midway and not step.rolls_back


def _unfinished(error: StepError | None) -> StepError | None:
    """Return the error of a run that has done its steps, and not what comes behind them:
    Django makes content types and permissions when all migrations are applied."""
    if error is None:
        return None
    return replace(
        error,
        message=f"{error.message} Every step is recorded; what migrate does at its end, "
        "such as making permissions, may be missing: apply once more.",
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
        message="migrate ended without an error, but the database does not say so of "
        f"{', '.join(labels)}.",
    )
