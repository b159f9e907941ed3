"""What is known of each operation of a step that has stopped?

The durable record says which operation had begun last, the catalog what is there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from migration_route.catalog.reading import OperationReading, StepReading, read_step
from migration_route.ledger.records import (
    OperationEvidence,
    RunRecord,
    StepError,
    StepRecord,
)
from migration_route.planning.sql import AT_THE_END
from migration_route.running.supervision.verdict import Told
from migration_route.vocabulary import Direction, Mode, Presence


def with_evidence(
    told: Told,
    run: RunRecord,
    steps: tuple[StepRecord, ...],
    recorded: Collection[tuple[str, str]],
) -> Told:
    """Return what was told with what is known of the operations of the step under way.

    Reads the catalog through `connections[database]`.
    """
    if told.current is None and steps and steps[0].done_operations is not None:
        told = replace(told, current=0)  # an earlier run has left it midway
    if told.current is None or run.mode is not Mode.APPLY:
        return told
    step = steps[told.current]
    backwards = step.direction is Direction.BACKWARDS
    if ((step.app, step.name) in recorded) is not backwards:
        return told  # the recorder has the last word
    reading = read_operations(run.database, step)
    if reading is None:
        return told
    return replace(told, operations=evidence(step, reading, told))


def read_operations(alias: str, step: StepRecord) -> StepReading | None:
    """Hold a step against the catalog; None where that cannot be done."""
    return read_step(
        alias,
        app=step.app,
        name=step.name,
        backwards=step.direction is Direction.BACKWARDS,
        digest=step.digest,
    )


def evidence(
    step: StepRecord, reading: StepReading, told: Told
) -> tuple[OperationEvidence, ...]:
    """Put record and catalog together, operation by operation. Pure."""
    operations = reading.operations
    if step.rolls_back and not any(one.has_own_transaction for one in operations):
        states = _all_or_nothing(step, reading, told)
    else:
        states = [_one(step, reading, number, told) for number in range(len(operations))]
    found = [
        OperationEvidence(position=one.position, description=one.description, state=state)
        for one, state in zip(operations, states, strict=True)
    ]
    if reading.end is not Presence.UNKNOWN:
        has_begun = step.begun == len(operations)
        gone = Presence.OUT in states or not has_begun
        end = OperationEvidence(
            position=len(operations),
            description=AT_THE_END,
            state=Presence.OUT if gone else reading.end,
        )
        found.append(end)
    return tuple(found)


def _all_or_nothing(step: StepRecord, reading: StepReading, told: Told) -> list[Presence]:
    """Return what a step in one transaction has left: all of it, or nothing.

    Before it has come to its end it cannot have been committed. One that leaves no mark
    is recorded by the same transaction; of one that raised, that says enough.
    """
    count = len(reading.operations)
    seen = [operation.state for operation in reading.operations]
    if step.begun == count and Presence.OUT not in seen:
        if Presence.IN in seen:
            return [Presence.IN] * count
        return [Presence.UNKNOWN if told.ending is None else Presence.OUT] * count
    finished = _finished(step, told, count)
    if not {Presence.IN, Presence.MIDWAY}.intersection(seen[:finished]):
        return [Presence.OUT] * count
    # What this step has made is there, so that nothing was rolled back.
    return [*seen[:finished], *[Presence.OUT] * (count - finished)]


def _finished(step: StepRecord, told: Told, count: int) -> int:
    """Return how many operations of a step in one transaction had come to their end, by
    what its worker has said. None where it sent nothing: what is there was there before."""
    if not told.touching:
        return 0
    stopped = told.error.operation if told.error is not None else None
    if stopped is None:
        return count if told.wrote or told.ending is None else 0
    return count - 1 - stopped if step.direction is Direction.BACKWARDS else stopped


def _one(step: StepRecord, reading: StepReading, number: int, told: Told) -> Presence:
    """Return what is known of one operation that stays by itself."""
    operation = reading.operations[number]
    if not step.added.is_matched:
        # The numbers that are on record do not count the operations of the source.
        return Presence.OUT if step.begun is None else operation.state
    begun = max(step.begun or 0, step.done_operations or 0)
    if number < begun:
        known = operation.state is not Presence.UNKNOWN
        return operation.state if known else Presence.IN
    has_begun = step.begun == begun and step.added.begun is None
    if number == begun and has_begun:
        return _last(operation, step, told)
    if number == step.done_operations and operation.state is Presence.MIDWAY:
        return Presence.MIDWAY  # as the run has left it that this one resumes
    return Presence.OUT  # nothing of it was sent


def _was_refused(error: StepError | None) -> bool:
    """Tell whether the database has answered a COMMIT with no: a deferred constraint, or
    a transaction that it has rolled back (class 40 of SQLSTATE). A connection that broke
    tells nothing of what became of it."""
    if error is None:
        return False
    code = error.sqlstate or ""
    return error.type == "IntegrityError" or (len(code) == 5 and code.startswith("40"))


def _last(operation: OperationReading, step: StepRecord, told: Told) -> Presence:
    """Return what is known of the operation that had begun last."""
    has_failed = told.ending is not None
    if operation.is_harmless:
        return Presence.OUT
    if operation.has_own_transaction:
        # It is undone unless it was committed, and it was not before it returned.
        is_undone = not step.returned or _was_refused(told.error)
        return Presence.OUT if is_undone else Presence.UNKNOWN
    if has_failed and not told.carried_out and not operation.is_only_invalid:
        return Presence.OUT  # its first statement was refused, and has left nothing
    return operation.state
