"""Tests of the end state of a run that was stopped."""

from __future__ import annotations

import pytest

from migration_route.core.enums import RunState, StepState
from migration_route.execution.supervisor.outcome import Outcome, apply_cancellation
from migration_route.ledger.step_evidence import StepError
from tests.factories import a_step_record

ERROR = StepError(type="QueryCanceled", message="canceling statement")


def a_verdict(state: RunState, outcome: str) -> Outcome:
    """Return how a run ended, according to the database."""
    step = a_step_record(state=StepState.FAILED, error=ERROR)
    return Outcome(state=state, outcome=outcome, steps=(step,), error=ERROR)


@pytest.mark.parametrize("why", ["cancel", "force"])
def test_a_cancelled_run_whose_step_was_rolled_back_is_cancelled(why):
    """It is not `failed`; the database error is stored at its step."""
    found = apply_cancellation(a_verdict(RunState.FAILED, "failed"), why)
    assert (found.state, found.outcome, found.error) == (
        RunState.CANCELLED,
        "cancelled",
        None,
    )
    assert found.steps[0].error == ERROR


@pytest.mark.parametrize("state", [RunState.FAILED, RunState.CANCELLED])
def test_a_run_whose_process_was_told_to_end_says_so(state):
    """Either at the gate or by the statement: the cause was the signal."""
    found = apply_cancellation(a_verdict(state, "whatever"), "SIGTERM")
    assert (found.state, found.outcome) == (RunState.FAILED, "interrupted")
    assert found.error is not None
    assert "SIGTERM" in found.error.message


@pytest.mark.parametrize("why", ["cancel", "force", "SIGTERM", "pause", ""])
@pytest.mark.parametrize("state", [RunState.PARTIAL, RunState.SUCCEEDED, RunState.STALE])
def test_what_is_true_anyway_stays(state, why):
    """Partial stays partial, and succeeded stays succeeded."""
    found = a_verdict(state, "as it is")
    assert apply_cancellation(found, why) == found


@pytest.mark.parametrize("why", ["pause", ""])
def test_a_run_that_nobody_stopped_has_failed(why):
    """A requested pause does not change that."""
    found = a_verdict(RunState.FAILED, "failed")
    assert apply_cancellation(found, why) == found
