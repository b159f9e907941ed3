"""Tests of what is known of each operation, from the record and the catalog."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from migration_route.core.enums import Direction, EffectState, RunState
from migration_route.execution.recovery.introspection import OperationReading, StepReading
from migration_route.execution.recovery.reconcile import (
    additions_to_resume,
    combine_evidence,
    resume_position,
)
from migration_route.execution.supervisor.outcome import WorkerReport, determine_outcome
from migration_route.ledger.records import StepRecord
from migration_route.ledger.step_evidence import AddedOperations, StepError
from tests.factories import a_step_record

IN, OUT, MIDWAY, UNKNOWN = (
    EffectState.PRESENT,
    EffectState.ABSENT,
    EffectState.PARTIAL,
    EffectState.UNKNOWN,
)
KILLED = WorkerReport(ending=None, current=0, touching=True)
RAISED = WorkerReport(
    ending="failed", current=0, touching=True, error=StepError(type="X", message="x")
)


def reading(*states: EffectState, end: EffectState = UNKNOWN, **words: Any) -> StepReading:
    """Return the same catalog result for each of several operations."""
    facts: dict[str, Any] = {
        "is_harmless": False,
        "has_own_transaction": False,
        "is_only_invalid": False,
        "lacks_only_a_drop": False,
    }
    return StepReading(
        operations=tuple(
            OperationReading(
                position=number,
                description=f"operation {number}",
                state=state,
                **{**facts, **words},
            )
            for number, state in enumerate(states)
        ),
        end=end,
    )


def step(**words: Any) -> StepRecord:
    """Return a step that the database does not roll back as a whole."""
    return a_step_record(**{"rolls_back": False, **words})


def told_of(
    record: StepRecord, found: StepReading, told: WorkerReport = KILLED
) -> list[EffectState]:
    """Return the states only."""
    return [one.state for one in combine_evidence(record, found, told)]


@pytest.mark.parametrize(
    ("begun", "catalog", "expected"),
    [
        (None, (OUT, UNKNOWN, OUT), [OUT, OUT, OUT]),
        (0, (MIDWAY, UNKNOWN, OUT), [MIDWAY, OUT, OUT]),
        (1, (IN, UNKNOWN, OUT), [IN, UNKNOWN, OUT]),
        (2, (IN, UNKNOWN, OUT), [IN, IN, OUT]),
        (2, (IN, UNKNOWN, IN), [IN, IN, IN]),
        (3, (UNKNOWN, UNKNOWN, UNKNOWN), [IN, IN, IN]),
    ],
)
def test_what_had_begun_before_is_in_and_what_had_not_begun_is_out(
    begun, catalog, expected
):
    """The catalog decides about the one in between."""
    assert told_of(step(begun=begun), reading(*catalog)) == expected


def test_what_was_there_before_its_operation_began_is_not_its_work():
    """A table of the same name existed: the operation itself has sent nothing."""
    assert told_of(step(begun=0), reading(OUT, IN)) == [OUT, OUT]
    assert told_of(step(begun=0), reading(IN), RAISED) == [OUT]


def test_python_in_a_transaction_of_its_own_is_out_until_it_returns():
    """After that it is unknown whether it was committed, except where the database has
    reported that it was not."""
    found = reading(UNKNOWN, has_own_transaction=True)
    assert told_of(step(begun=0), found) == [OUT]
    assert told_of(step(begun=0, returned=True), found) == [UNKNOWN]
    for error, state in (
        (StepError(type="IntegrityError", message="a deferred constraint"), OUT),
        (StepError(type="OperationalError", message="serialise", sqlstate="40001"), OUT),
        (StepError(type="OperationalError", message="gone", sqlstate="57P01"), UNKNOWN),
        (StepError(type="OperationalError", message="gone", sqlstate="2013"), UNKNOWN),
        (StepError(type="KeyboardInterrupt", message=""), UNKNOWN),
    ):
        told = replace(RAISED, error=error)
        assert told_of(step(begun=0, returned=True), found, told) == [state]
        assert told_of(step(begun=0), found, told) == [OUT]
    assert told_of(step(begun=1), found) == [IN]


def test_a_step_in_one_transaction_is_in_as_a_whole_or_not_at_all():
    """And not before the step has ended."""
    whole = {"rolls_back": True}
    nothing_sent = replace(KILLED, touching=False)
    assert told_of(step(**whole), reading(IN, UNKNOWN), nothing_sent) == [OUT, OUT]
    assert told_of(step(begun=2, **whole), reading(IN, UNKNOWN)) == [IN, IN]
    assert told_of(step(begun=2, **whole), reading(OUT, UNKNOWN)) == [OUT, OUT]
    assert told_of(step(begun=1, **whole), reading(UNKNOWN)) == [UNKNOWN]
    assert told_of(step(begun=1, **whole), reading(UNKNOWN), RAISED) == [OUT]


@pytest.mark.parametrize("direction", [Direction.FORWARDS, Direction.BACKWARDS])
def test_what_was_not_rolled_back_is_in_whatever_was_expected(direction):
    """An operation that this step has finished is present: no rollback has undone it. The
    effect of one that has not started, or has failed, may have existed before."""
    whole = step(rolls_back=True, direction=direction)
    second = 1 if direction is Direction.FORWARDS else 2  # of four, in the source
    error = StepError(type="X", message="x", operation=second)
    raised = replace(RAISED, wrote=True, error=error)
    assert told_of(whole, reading(IN, IN, IN, IN), raised)[0] is IN
    if direction is Direction.FORWARDS:
        assert told_of(whole, reading(IN, IN, OUT, OUT), raised) == [IN, OUT, OUT, OUT]
    assert told_of(whole, reading(OUT, IN, OUT, OUT), raised) == [OUT] * 4
    killed = replace(KILLED, error=None)
    assert told_of(whole, reading(IN, UNKNOWN), killed) == [IN, UNKNOWN]
    told = replace(
        raised, operations=combine_evidence(whole, reading(IN, IN, IN, IN), raised)
    )
    assert (
        determine_outcome((whole,), _recorded_before(whole), told).state is RunState.PARTIAL
    )


def _recorded_before(record: StepRecord) -> set[tuple[str, str]]:
    """Return the recorder's state before the step is done."""
    is_back = record.direction is Direction.BACKWARDS
    return {(record.app, record.name)} if is_back else set()


def test_what_another_package_has_added_is_not_counted():
    """During such an operation, the next one of the source has not started."""
    added = AddedOperations(places=(1, 1), begun=1)
    found = step(begun=1, added=added)
    assert told_of(found, reading(UNKNOWN, UNKNOWN)) == [IN, OUT]
    assert "another package added" in resume_position(found, reading(IN, OUT))[1]
    again = replace(found, added=replace(added, repeatable=True))
    assert resume_position(again, reading(IN, OUT)) == (1, "")
    assert additions_to_resume(again) == AddedOperations(places=(1, 1), done=1)
    behind = replace(found, begun=1, added=replace(added, begun=None))
    assert additions_to_resume(behind).done == 2
    before = replace(found, begun=0, added=replace(added, begun=None, done=1))
    assert additions_to_resume(before).done == 1


def test_the_first_operation_leaves_something_though_another_package_has_added_it():
    """No operation of the source has started, but the database has changed."""
    added = AddedOperations(places=(0,), begun=0)
    found = step(begun=0, added=added)
    for told, state in (
        (replace(RAISED, carried_out=True), RunState.PARTIAL),
        (RAISED, RunState.FAILED),
        (KILLED, RunState.PARTIAL),
    ):
        known = replace(told, operations=combine_evidence(found, reading(OUT), told))
        assert determine_outcome((found,), set(), known).state is state


def test_where_the_list_was_changed_only_the_catalog_is_believed():
    """Operations are not counted, and the step is not resumed."""
    found = step(begun=0, added=AddedOperations(is_matched=False))
    assert told_of(found, reading(IN, UNKNOWN, OUT)) == [IN, UNKNOWN, OUT]
    assert told_of(replace(found, begun=None), reading(IN, UNKNOWN)) == [OUT, OUT]
    assert "changed the list" in resume_position(found, reading(IN, OUT))[1]


@pytest.mark.parametrize(
    ("record", "found", "state"),
    [
        (step(begun=0), reading(OUT, OUT), RunState.FAILED),
        (step(begun=0), reading(MIDWAY, OUT), RunState.PARTIAL),
        (step(begun=1), reading(IN, OUT), RunState.PARTIAL),
        (step(begun=0), reading(UNKNOWN), RunState.PARTIAL),
        (step(begun=2, rolls_back=True), reading(IN, IN), RunState.PARTIAL),
        (step(begun=2, rolls_back=True), reading(OUT, OUT), RunState.FAILED),
        (step(begun=1, rolls_back=True), reading(UNKNOWN), RunState.PARTIAL),
        (step(done_operations=1), reading(IN, OUT), RunState.PARTIAL),
    ],
)
def test_the_verdict_follows_the_evidence(record, found, state):
    """Partial where something is or may be present, else failed and clean."""
    told = WorkerReport(
        ending=None,
        current=0,
        touching=True,
        operations=combine_evidence(record, found, KILLED),
    )
    assert determine_outcome((record,), set(), told).state is state


def test_where_it_goes_on_has_to_be_proved():
    """After present operations, at an absent one; never at one that has started without a
    trace."""
    assert resume_position(step(begun=1), reading(IN, OUT)) == (1, "")
    assert resume_position(step(begun=2), reading(IN, IN)) == (2, "")
    found = reading(IN, MIDWAY)
    assert "half done" in resume_position(step(begun=1), found)[1]
    assert resume_position(step(), reading(MIDWAY, is_only_invalid=True)) == (0, "")
    found = reading(MIDWAY, lacks_only_a_drop=True)
    assert resume_position(step(begun=0), found) == (1, "")
    assert "had started" in resume_position(step(begun=0), reading(UNKNOWN, OUT))[1]
    assert "an earlier one is not" in resume_position(step(begun=0), reading(OUT, IN))[1]
    assert resume_position(step(rolls_back=True), reading(IN))[1]
