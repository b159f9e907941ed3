"""Tests of how the messages of a rehearsal's worker are evaluated."""

from __future__ import annotations

import msgspec
import pytest

from migration_route.execution.messages import Message, WorkerFailure
from migration_route.execution.rehearsal.recorder import RehearsalRecorder
from migration_route.execution.rehearsal.runner import schema_differences
from migration_route.execution.supervisor.child import RawOutput
from migration_route.ledger.rehearsals import (
    ObservedLock,
    ObservedOperation,
    ObservedStatement,
    ObservedStep,
    Report,
    report_from_json,
    report_to_json,
)
from migration_route.ledger.step_evidence import StepError

AT = "2026-01-01T00:00:00.000000Z"
STEPS = (
    ObservedStep(app="shop", name="0001_a", direction="forwards"),
    ObservedStep(app="shop", name="0002_b", direction="forwards"),
)


def say(hearing, kind, **facts):
    return hearing.hear(Message(kind=kind, at=AT, **facts))


def a_statement(*locks, **changes):
    return ObservedStatement(sql="ALTER", duration_ms=3, locks=locks, **changes)


def a_lock(held, *blocks, table="item"):
    return ObservedLock(table=table, mode="M", blocks=blocks, held_ms=held)


def test_a_step_that_went_through_is_told():
    """With its operations, and every gate is answered."""
    hearing = RehearsalRecorder(STEPS)
    assert say(hearing, "gate", app="shop", name="0001_a")
    assert say(hearing, "operation_gate", operation=0)
    assert not say(hearing, "statement_started", text="ALTER")
    seen = ObservedOperation(
        position=0, description="x", duration_ms=4, statements=(a_statement(a_lock(9)),)
    )
    facts = {"operations": [msgspec.to_builtins(seen)], "differences": ["a line"]}
    say(hearing, "watched", facts=facts)
    say(hearing, "step_finished", app="shop", name="0001_a", duration_ms=7)
    say(hearing, "ended", ending="done")
    assert hearing.ended(0) is None
    first, second = hearing.steps
    assert (first.sql_differences, second.sql_differences) == (("a line",), ())
    assert (first.state, first.duration_ms, first.operations) == ("applied", 7, (seen,))
    assert second.state == "not_started"


def test_a_failure_says_where_and_why():
    """The step, the operation, and the database error."""
    hearing = RehearsalRecorder(STEPS)
    say(hearing, "gate", app="shop", name="0002_b")
    say(hearing, "operation_started", operation=3, text="x")
    failure = WorkerFailure(type="IntegrityError", message="no", sqlstate="23505")
    say(hearing, "ended", ending="failed", failure=failure)
    error = hearing.ended(0)
    assert error is not None
    assert (error.type, error.operation, error.sqlstate) == ("IntegrityError", 3, "23505")
    assert hearing.steps[1].state == "failed"
    observed = hearing.steps[1].error
    assert observed is not None
    assert observed.operation == 3


def test_a_worker_that_dies_leaves_the_statement_that_it_was_at():
    """The last statement that it had reported."""
    hearing = RehearsalRecorder(STEPS)
    say(hearing, "gate", app="shop", name="0001_a")
    say(hearing, "operation_started", operation=0, text="x")
    say(hearing, "statement_started", text="SELECT explode()")
    error = hearing.ended(-9)
    assert error is not None
    assert error.type == "ProcessDied"
    assert "-9" in error.message
    assert "explode" in error.message


def test_what_is_printed_and_denied_is_kept():
    """The last lines, and every access that was refused."""
    hearing = RehearsalRecorder(STEPS)
    hearing.hear(RawOutput(stream="stdout", text="from below"))
    for number in range(150):
        say(hearing, "output", text=f"line {number}")
    say(hearing, "denied", text="the database 'x'")
    assert hearing.output[-1] == "line 149"
    assert len(hearing.output) == 100
    assert hearing.denied == ["the database 'x'"]


@pytest.mark.parametrize(
    ("locks", "held"),
    [
        ((), None),
        ((a_lock(50),), None),
        ((a_lock(50, "schema_changes"),), None),
        ((a_lock(50, "schema_changes", "writes"), a_lock(7, "writes")), 50),
        ((a_lock(5, "reads", "schema_changes", "writes"), a_lock(50, "writes")), 5),
    ],
)
def test_the_longest_lock_is_the_one_that_keeps_most_waiting(locks, held):
    """Blocked readers count more than the duration; a lock that blocks nothing is
    ignored."""
    operation = ObservedOperation(
        position=0, description="x", duration_ms=1, statements=(a_statement(*locks),)
    )
    step = ObservedStep(app="a", name="b", direction="forwards", operations=(operation,))
    longest = Report(steps=(step,)).longest_lock()
    assert (longest and longest.held_ms) == held


def test_a_report_is_read_as_it_was_stored():
    """The stored report is decoded without loss."""
    operation = ObservedOperation(
        position=None,
        description="end",
        duration_ms=1,
        statements=(a_statement(a_lock(5, "reads")), a_statement(rewrites=("item",))),
    )
    step = ObservedStep(app="a", name="b", direction="forwards", operations=(operation,))
    report = Report(steps=(step,), back=(step,), differences=("+ x",), output=("hello",))
    assert report_from_json(report_to_json(report)) == report


def test_differences_are_lines_that_went_and_came():
    """Nothing where there is no difference."""
    assert schema_differences(["a", "b"], ["a", "b"]) == ()
    assert schema_differences(["a", "b", "c"], ["a", "x", "c"]) == ("-b", "+x")


def test_what_is_left_out_in_place_is_a_limit():
    """For one step, or for all; and the time limit starts with the first step."""
    hearing = RehearsalRecorder(STEPS)
    assert hearing.begun is None
    say(hearing, "gate", app="shop", name="0001_a")
    begun = hearing.begun
    say(hearing, "step_finished", app="shop", name="0001_a", duration_ms=7)
    say(hearing, "gate", app="shop", name="0002_b")
    assert hearing.begun == begun
    words = {"text": "No.", "facts": {"code": "not_atomic"}}
    say(hearing, "unrehearsed", app="shop", name="0002_b", **words)
    say(hearing, "unrehearsed", **words)
    assert [limit.step for limit in hearing.unrehearsed] == ["shop.0002_b", None]
    assert {limit.code for limit in hearing.unrehearsed} == {"not_atomic"}


def test_a_worker_that_was_stopped_names_the_step():
    """The worker did not report it itself."""
    hearing = RehearsalRecorder(STEPS)
    say(hearing, "gate", app="shop", name="0001_a")
    error = hearing.failed(StepError(type="InPlaceTimeout", message="too long"))
    assert hearing.steps[0].state == "failed"
    observed = hearing.steps[0].error
    assert observed is not None
    assert observed.type == error.type == "InPlaceTimeout"
