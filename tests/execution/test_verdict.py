"""Tests of how a run ended: a table of what the worker reported against what is
recorded."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration_route.core.enums import Direction, RunState, StepState
from migration_route.execution.supervisor.outcome import WorkerReport, determine_outcome
from migration_route.ledger.records import StepRecord
from migration_route.ledger.step_evidence import StepError
from tests.factories import a_step_record

ERROR = StepError(type="OperationalError", message="no such table")
BACK = Direction.BACKWARDS
A, B = ("testapp", "0002_a"), ("testapp", "0003_b")
NOT, APPLIED, REVERTED = StepState.NOT_STARTED, StepState.APPLIED, StepState.REVERTED
FAILED, PARTIAL = StepState.FAILED, StepState.PARTIAL


def two(**changes: object) -> tuple[StepRecord, ...]:
    """Return two steps."""
    return (a_step_record("0002_a", **changes), a_step_record("0003_b", **changes))


def failed(position: int, **facts: object) -> WorkerReport:
    """Return what is known of a worker that reported an exception in a step."""
    return WorkerReport(ending="failed", error=ERROR, current=position, **facts)  # type: ignore[arg-type]


def died(position: int | None, **facts: object) -> WorkerReport:
    """Return what is known of a worker that ended without a report."""
    return WorkerReport(ending=None, error=ERROR, current=position, **facts)  # type: ignore[arg-type]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What was reported and recorded, and the resulting end."""

    name: str
    told: WorkerReport
    recorded: set[tuple[str, str]] = field(default_factory=set)
    steps: tuple[StepRecord, ...] = field(default_factory=two)
    state: RunState
    outcome: str
    ends: tuple[StepState, ...]
    has_error: bool = False


CASES = (
    Case(
        name="no locks within the means of the step",
        told=WorkerReport(ending="lock_timeout", error=ERROR, current=1, touching=True),
        recorded={A},
        state=RunState.FAILED,
        outcome="lock_timeout",
        ends=(APPLIED, FAILED),
        has_error=True,
    ),
    Case(
        name="no locks for a later part of a step that stays",
        told=WorkerReport(
            ending="lock_timeout", error=ERROR, current=1, touching=True, wrote=True
        ),
        recorded={A},
        steps=two(rolls_back=False),
        state=RunState.PARTIAL,
        outcome="partial",
        ends=(APPLIED, PARTIAL),
        has_error=True,
    ),
    Case(
        name="stopped where a step waited for its locks",
        told=WorkerReport(ending="stopped", current=1, touching=True, wrote=True),
        recorded={A},
        state=RunState.CANCELLED,
        outcome="cancelled",
        ends=(APPLIED, NOT),
    ),
    Case(
        name="stopped in the middle of a step that stays",
        told=WorkerReport(ending="stopped", current=1, touching=True, wrote=True),
        recorded={A},
        steps=two(rolls_back=False),
        state=RunState.PARTIAL,
        outcome="partial",
        ends=(APPLIED, PARTIAL),
    ),
    Case(
        name="done",
        told=WorkerReport(ending="done"),
        recorded={A, B},
        state=RunState.SUCCEEDED,
        outcome="applied",
        ends=(APPLIED, APPLIED),
    ),
    Case(
        name="done, nothing to do",
        told=WorkerReport(ending="done"),
        steps=(),
        state=RunState.NOOP,
        outcome="noop",
        ends=(),
    ),
    Case(
        name="done, backwards",
        told=WorkerReport(ending="done"),
        steps=two(direction=BACK),
        state=RunState.SUCCEEDED,
        outcome="reverted",
        ends=(REVERTED, REVERTED),
    ),
    Case(
        name="done, but not recorded",
        told=WorkerReport(ending="done"),
        recorded={A},
        state=RunState.FAILED,
        outcome="not_recorded",
        ends=(APPLIED, NOT),
        has_error=True,
    ),
    Case(
        name="done backwards, but still recorded",
        told=WorkerReport(ending="done"),
        recorded={B},
        steps=two(direction=BACK),
        state=RunState.FAILED,
        outcome="not_recorded",
        ends=(REVERTED, NOT),
        has_error=True,
    ),
    Case(
        name="failed, rolled back",
        told=failed(1, touching=True, wrote=True),
        recorded={A},
        state=RunState.FAILED,
        outcome="failed",
        ends=(APPLIED, FAILED),
        has_error=True,
    ),
    Case(
        name="failed after it wrote, cannot be rolled back",
        told=failed(1, touching=True, wrote=True),
        recorded={A},
        steps=two(rolls_back=False),
        state=RunState.PARTIAL,
        outcome="partial",
        ends=(APPLIED, PARTIAL),
        has_error=True,
    ),
    Case(
        name="failed in its first writing statement, cannot be rolled back",
        told=failed(1, touching=True, wrote=False),
        recorded={A},
        steps=two(rolls_back=False),
        state=RunState.FAILED,
        outcome="failed",
        ends=(APPLIED, FAILED),
        has_error=True,
    ),
    Case(
        name="failed before it wrote, cannot be rolled back",
        told=failed(0),
        steps=two(rolls_back=False),
        state=RunState.FAILED,
        outcome="failed",
        ends=(FAILED, NOT),
        has_error=True,
    ),
    Case(
        name="failed after it was recorded",
        told=failed(0, touching=True, wrote=True),
        recorded={A},
        steps=two(rolls_back=False),
        state=RunState.FAILED,
        outcome="failed",
        ends=(APPLIED, NOT),
        has_error=True,
    ),
    Case(
        name="failed before the first step",
        told=WorkerReport(ending="failed", error=ERROR),
        state=RunState.FAILED,
        outcome="failed",
        ends=(NOT, NOT),
        has_error=True,
    ),
    Case(
        name="failed behind the last step",
        told=WorkerReport(ending="failed", error=ERROR),
        recorded={A, B},
        state=RunState.FAILED,
        outcome="failed",
        ends=(APPLIED, APPLIED),
        has_error=True,
    ),
    Case(
        name="failed backwards, cannot be rolled back",
        told=failed(0, touching=True, wrote=True),
        recorded={A, B},
        steps=two(direction=BACK, rolls_back=False),
        state=RunState.PARTIAL,
        outcome="partial",
        ends=(PARTIAL, NOT),
        has_error=True,
    ),
    Case(
        name="died without touching",
        told=died(0),
        steps=two(rolls_back=False),
        state=RunState.FAILED,
        outcome="interrupted",
        ends=(FAILED, NOT),
        has_error=True,
    ),
    Case(
        name="died while touching, cannot be rolled back",
        told=died(0, touching=True),
        steps=two(rolls_back=False),
        state=RunState.PARTIAL,
        outcome="partial",
        ends=(PARTIAL, NOT),
        has_error=True,
    ),
    Case(
        name="died while touching, rolled back",
        told=died(0, touching=True, wrote=True),
        state=RunState.FAILED,
        outcome="interrupted",
        ends=(FAILED, NOT),
        has_error=True,
    ),
    Case(
        name="died between two steps",
        told=died(None),
        recorded={A},
        steps=two(rolls_back=False),
        state=RunState.FAILED,
        outcome="interrupted",
        ends=(APPLIED, NOT),
        has_error=True,
    ),
    Case(
        name="died after the last step, with its supervisor there",
        told=died(None),
        recorded={A, B},
        state=RunState.FAILED,
        outcome="interrupted",
        ends=(APPLIED, APPLIED),
        has_error=True,
    ),
    Case(
        name="lost, everything recorded",
        told=died(1, touching=True),
        recorded={A, B},
        steps=two(rolls_back=False),
        state=RunState.FAILED,
        outcome="interrupted",
        ends=(APPLIED, APPLIED),
        has_error=True,
    ),
    Case(
        name="lost backwards, everything recorded",
        told=died(None),
        steps=two(direction=BACK),
        state=RunState.FAILED,
        outcome="interrupted",
        ends=(REVERTED, REVERTED),
        has_error=True,
    ),
    Case(
        name="lost in a step that the database rolled back",
        told=died(1, touching=True),
        recorded={A},
        state=RunState.FAILED,
        outcome="interrupted",
        ends=(APPLIED, FAILED),
        has_error=True,
    ),
    Case(
        name="lost in a step that cannot be rolled back",
        told=died(1, touching=True),
        recorded={A},
        steps=two(rolls_back=False),
        state=RunState.PARTIAL,
        outcome="partial",
        ends=(APPLIED, PARTIAL),
        has_error=True,
    ),
    Case(
        name="lost before anything began",
        told=died(None),
        state=RunState.FAILED,
        outcome="interrupted",
        ends=(NOT, NOT),
        has_error=True,
    ),
    Case(
        name="lost with nothing to do",
        told=died(None),
        steps=(),
        state=RunState.FAILED,
        outcome="interrupted",
        ends=(),
        has_error=True,
    ),
    Case(
        name="stopped before the first step",
        told=WorkerReport(ending="stopped"),
        state=RunState.CANCELLED,
        outcome="cancelled",
        ends=(NOT, NOT),
    ),
    Case(
        name="stopped between two steps",
        told=WorkerReport(ending="stopped"),
        recorded={A},
        steps=two(rolls_back=False),
        state=RunState.CANCELLED,
        outcome="cancelled",
        ends=(APPLIED, NOT),
    ),
    Case(
        name="the plan has changed",
        told=WorkerReport(ending="plan_changed", error=ERROR),
        state=RunState.STALE,
        outcome="plan_changed",
        ends=(NOT, NOT),
        has_error=True,
    ),
    Case(
        name="the plan has changed: somebody else applied all of it",
        told=WorkerReport(ending="plan_changed", error=ERROR),
        recorded={A, B},
        state=RunState.STALE,
        outcome="plan_changed",
        ends=(APPLIED, APPLIED),
        has_error=True,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_verdict(case):
    """Each case has one end state, with a state for each step."""
    found = determine_outcome(case.steps, case.recorded, case.told)
    assert (found.state, found.outcome) == (case.state, case.outcome)
    assert tuple(step.state for step in found.steps) == case.ends
    assert (found.error is not None) is case.has_error


def test_the_error_stands_at_the_step_that_failed():
    """The other steps have none."""
    found = determine_outcome(two(), {A}, failed(1))
    assert [step.error for step in found.steps] == [None, ERROR]


def test_what_is_not_recorded_is_named():
    """A `migrate` that ends without recording a step gets an error that names it."""
    found = determine_outcome(two(), {A}, WorkerReport(ending="done"))
    assert found.error is not None
    assert "testapp.0003_b" in found.error.message
    assert "testapp.0002_a" not in found.error.message


@given(
    ending=st.sampled_from(["done", "failed", "stopped", "plan_changed", None]),
    recorded=st.sets(st.sampled_from([A, B])),
    current=st.sampled_from([None, 0, 1]),
    touching=st.booleans(),
    wrote=st.booleans(),
    rolls_back=st.booleans(),
)
def test_success_is_never_told_of_what_is_not_recorded(
    ending, recorded, current, touching, wrote, rolls_back
):
    """Whatever a worker reports: only the recorder proves success, and each recorded step
    is applied."""
    told = WorkerReport(
        ending=ending,
        error=ERROR,
        current=current,
        touching=touching,
        wrote=wrote,
    )
    found = determine_outcome(two(rolls_back=rolls_back), recorded, told)
    if found.state in {RunState.SUCCEEDED, RunState.NOOP}:
        assert recorded == {A, B}
    for step in found.steps:
        assert (step.state is APPLIED) is ((step.app, step.name) in recorded)
    if found.state is RunState.PARTIAL:
        assert not rolls_back
