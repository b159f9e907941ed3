"""Tests of the recorded duration of the same step."""

from __future__ import annotations

from typing import Any

import pytest

from migration_route.core.enums import Direction, Mode, RunState, StepState
from migration_route.ledger import runs
from migration_route.ledger.queries import StepDuration, StepKey, previous_durations
from migration_route.ledger.records import StepRecord
from migration_route.planning.plan import PlanRequest
from migration_route.presentation.serializers import plan_answer
from migration_route.services.plans import detailed_plan
from tests.factories import a_new_run, a_step_record

DONE = a_step_record("0001_a", state=StepState.APPLIED, duration_ms=42)


def key_of(step: StepRecord) -> StepKey:
    """Return the key that identifies a step."""
    return step.app, step.name, step.direction, step.digest


def on_record(step: StepRecord, **changes: Any) -> str:
    """Record an ended run of this step; return its id."""
    run, _ = runs.create_run(a_new_run(steps=(step,), **changes))
    return runs.move(run.id, to=RunState.FAILED, expected={RunState.QUEUED}).id


def test_the_newest_run_tells_wherever_it_was(database):
    """On another database as well, and even if a later step of that run has failed."""
    on_record(a_step_record("0001_a", state=StepState.APPLIED, duration_ms=9))
    run = on_record(DONE, database="other")
    (took,) = previous_durations([key_of(DONE)]).values()
    assert isinstance(took, StepDuration)
    assert (took.ms, took.run, took.database) == (42, run, "other")
    assert took.at


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": "another source"},
        {"direction": Direction.BACKWARDS},
        {"state": StepState.FAILED},
        {"duration_ms": None},
        {"done_operations": 1},
    ],
)
def test_what_is_not_the_same_tells_nothing(database, changes):
    """Nor does a step that did not complete, or was resumed midway."""
    facts = {"state": StepState.APPLIED, "duration_ms": 42, **changes}
    on_record(a_step_record("0001_a", **facts))
    assert previous_durations([key_of(DONE)]) == {}


def test_what_was_only_recorded_tells_nothing(database):
    """It took no time."""
    on_record(DONE, mode=Mode.FAKE)
    assert previous_durations([key_of(DONE)]) == {}


def test_a_plan_says_how_long_its_steps_took(history):
    """Steps are matched by the digest of their source."""
    history.table("0001_a", "shelf")
    (step,) = detailed_plan(PlanRequest()).steps
    assert step.estimate is None
    run = on_record(
        a_step_record(
            "0001_a", digest=step.digest, state=StepState.APPLIED, duration_ms=1234
        )
    )
    plan = detailed_plan(PlanRequest())
    (told,) = plan_answer(plan).steps
    assert told.estimate is not None
    assert (told.estimate.ms, told.estimate.run) == (1234, run)
