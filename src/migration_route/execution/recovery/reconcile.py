"""What has a partial run left, now that nobody is at work? Asked and settled under the
lock of its database.

What is known of each operation of a step that has stopped?

The durable record says which operation had begun last, the catalog what is there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace

from django.db import connections, transaction
from django.db.migrations.executor import MigrationExecutor

from migration_route.conf.databases import private_connection, using_private_connection
from migration_route.core.enums import Direction, EffectState, Mode, StepState
from migration_route.core.errors import ActiveRun, Refused, SessionOrphaned
from migration_route.execution.recovery.introspection import (
    OperationReading,
    StepReading,
    read_step,
)
from migration_route.execution.supervisor.outcome import WorkerReport
from migration_route.ledger.evidence import AddedOperations, OperationEvidence, StepError
from migration_route.ledger.records import RunRecord, StepRecord
from migration_route.planning.graph import read_recorder, without_translations
from migration_route.planning.sql import AT_THE_END
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot


def collect_evidence(
    told: WorkerReport,
    run: RunRecord,
    steps: tuple[StepRecord, ...],
    recorded: Collection[tuple[str, str]],
) -> WorkerReport:
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
    step: StepRecord, reading: StepReading, told: WorkerReport
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
    if reading.end is not EffectState.UNKNOWN:
        has_begun = step.begun == len(operations)
        gone = EffectState.OUT in states or not has_begun
        end = OperationEvidence(
            position=len(operations),
            description=AT_THE_END,
            state=EffectState.OUT if gone else reading.end,
        )
        found.append(end)
    return tuple(found)


def _all_or_nothing(
    step: StepRecord, reading: StepReading, told: WorkerReport
) -> list[EffectState]:
    """Return what a step in one transaction has left: all of it, or nothing.

    Before it has come to its end it cannot have been committed. One that leaves no mark
    is recorded by the same transaction; of one that raised, that says enough.
    """
    count = len(reading.operations)
    seen = [operation.state for operation in reading.operations]
    if step.begun == count and EffectState.OUT not in seen:
        if EffectState.IN in seen:
            return [EffectState.IN] * count
        return [EffectState.UNKNOWN if told.ending is None else EffectState.OUT] * count
    finished = _finished(step, told, count)
    if not {EffectState.IN, EffectState.MIDWAY}.intersection(seen[:finished]):
        return [EffectState.OUT] * count
    # What this step has made is there, so that nothing was rolled back.
    return [*seen[:finished], *[EffectState.OUT] * (count - finished)]


def _finished(step: StepRecord, told: WorkerReport, count: int) -> int:
    """Return how many operations of a step in one transaction had come to their end, by
    what its worker has said. None where it sent nothing: what is there was there before."""
    if not told.touching:
        return 0
    stopped = told.error.operation if told.error is not None else None
    if stopped is None:
        return count if told.wrote or told.ending is None else 0
    return count - 1 - stopped if step.direction is Direction.BACKWARDS else stopped


def _one(
    step: StepRecord, reading: StepReading, number: int, told: WorkerReport
) -> EffectState:
    """Return what is known of one operation that stays by itself."""
    operation = reading.operations[number]
    if not step.added.is_matched:
        # The numbers that are on record do not count the operations of the source.
        return EffectState.OUT if step.begun is None else operation.state
    begun = max(step.begun or 0, step.done_operations or 0)
    if number < begun:
        known = operation.state is not EffectState.UNKNOWN
        return operation.state if known else EffectState.IN
    has_begun = step.begun == begun and step.added.begun is None
    if number == begun and has_begun:
        return _last(operation, step, told)
    if number == step.done_operations and operation.state is EffectState.MIDWAY:
        return EffectState.MIDWAY  # as the run has left it that this one resumes
    return EffectState.OUT  # nothing of it was sent


def _was_refused(error: StepError | None) -> bool:
    """Tell whether the database has answered a COMMIT with no: a deferred constraint, or
    a transaction that it has rolled back (class 40 of SQLSTATE). A connection that broke
    tells nothing of what became of it."""
    if error is None:
        return False
    code = error.sqlstate or ""
    return error.type == "IntegrityError" or (len(code) == 5 and code.startswith("40"))


def _last(operation: OperationReading, step: StepRecord, told: WorkerReport) -> EffectState:
    """Return what is known of the operation that had begun last."""
    has_failed = told.ending is not None
    if operation.is_harmless:
        return EffectState.OUT
    if operation.has_own_transaction:
        # It is undone unless it was committed, and it was not before it returned.
        is_undone = not step.returned or _was_refused(told.error)
        return EffectState.OUT if is_undone else EffectState.UNKNOWN
    if has_failed and not told.carried_out and not operation.is_only_invalid:
        return EffectState.OUT  # its first statement was refused, and has left nothing
    return operation.state


@contextmanager
def hold_database_lock(database: str) -> Iterator[None]:
    """Hold the lock of a database, as a run does, with a connection of one's own behind
    its alias. Raises `ActiveRun` or `OrphanBackend` where somebody is at work."""
    connection = private_connection(database)
    vendor = vendor_of(database)
    lock = vendor.lock(connection, LockSlot.SUPERVISOR)
    try:
        if not lock.try_acquire():
            raise ActiveRun(f"Something else is migrating {database!r} at this moment.")
        try:
            worker_lock = vendor.lock(connection, LockSlot.WORKER)
            if not worker_lock.try_acquire():
                raise SessionOrphaned
            try:
                with using_private_connection(database):
                    yield
            finally:
                worker_lock.release()
        finally:
            lock.release()
    finally:
        connection.close()


def interrupted_step(run: RunRecord) -> tuple[int, StepRecord]:
    """Return the step that stopped midway, with its position in the run."""
    for position, step in enumerate(run.steps):
        if step.state is StepState.PARTIAL:
            return position, step
    raise Refused(f"No step of run {run.id} stopped midway.", run=run.id)


def compare_with_catalog(run: RunRecord, step: StepRecord) -> StepReading:
    """Hold the step against the catalog as it is now. Raises `Refused` where its source
    is not the one that ran any more, or cannot be loaded."""
    reading = read_operations(run.database, step)
    if reading is None:
        raise Refused(
            f"{step.label} cannot be compared with the database: its source is not the one "
            "that ran, or the migrations cannot be loaded.",
            hint="Put the database and django_migrations right by hand, then resolve as it "
            "is.",
            run=run.id,
        )
    return reading


def evidence_now(step: StepRecord, reading: StepReading) -> tuple[OperationEvidence, ...]:
    """Return what is known of each operation: by the catalog as it is now, and where it
    shows nothing by the record of the run, in the order of execution."""
    recorded = {found.position: found.state for found in step.operations or ()}
    found = [
        OperationEvidence(
            position=one.position,
            description=one.description,
            state=recorded.get(one.position, EffectState.UNKNOWN)
            if one.state is EffectState.UNKNOWN
            else one.state,
        )
        for one in reading.operations
    ]
    if reading.end is not EffectState.UNKNOWN:
        found.append(
            OperationEvidence(
                position=len(found), description=AT_THE_END, state=reading.end
            )
        )
    return tuple(found)


def contradictions(
    step: StepRecord, reading: StepReading, *, applied: bool
) -> tuple[OperationEvidence, ...]:
    """Return what the catalog says against a migration being applied, or not being."""
    carried_out = applied is (step.direction is Direction.FORWARDS)
    wanted = EffectState.IN if carried_out else EffectState.OUT
    by_catalog = evidence_now(_without_record(step), reading)
    return tuple(
        found for found in by_catalog if found.state not in {wanted, EffectState.UNKNOWN}
    )


def _without_record(step: StepRecord) -> StepRecord:
    return StepRecord.from_dict({**step.to_dict(), "operations": None})


def resume_position(step: StepRecord, reading: StepReading) -> tuple[int, str]:
    """Return how many operations are proved to be carried out, so that the next one can
    begin; and why that cannot be proved, or "". One that lacks only the dropping of a
    default counts: whoever resumes drops it."""
    if step.rolls_back:
        return 0, "It runs in one transaction: there is nothing inside of it to resume at."
    if not step.added.is_matched:
        return 0, (
            "Another package has changed the list of its operations when it ran, so that "
            "nothing tells which of them were carried out."
        )
    if step.added.begun is not None and not step.added.repeatable:
        after = f" behind operation {step.begun}" if step.begun else ""
        return 0, (
            f"An operation that another package has added{after} had begun, and nothing "
            "shows how far it came."
        )
    count = len(reading.operations)
    states = [found.state for found in evidence_now(step, reading)[:count]]
    carried_out = [
        state is EffectState.IN or one.lacks_only_a_drop
        for state, one in zip(states, reading.operations, strict=True)
    ]
    done = carried_out.index(False) if False in carried_out else count
    for number in range(done, count):
        one = reading.operations[number]
        name = f"Operation {one.position + 1} ({one.description})"
        if states[number] is EffectState.OUT or one.is_harmless or one.is_only_invalid:
            continue
        if number > done and states[number] is EffectState.UNKNOWN:
            continue  # nothing of it was sent
        reason = {
            EffectState.UNKNOWN: "had begun, and nothing shows how far it came",
            EffectState.MIDWAY: "is half done",
            EffectState.IN: "is there, though one before it is not",
        }[states[number]]
        return done, f"{name} {reason}."
    return done, ""


def added_to_resume(step: StepRecord) -> AddedOperations:
    """Return the operations that other packages had added to a step, with how many of
    them have been carried out."""
    added = step.added
    return AddedOperations(places=added.places, done=added.done_when(step.begun))


@without_translations()
def set_recorded(alias: str, step: StepRecord, *, applied: bool) -> None:
    """Let Django's recorder say that a migration is applied, or that it is not, through
    `connections[alias]`; what a squashed one replaces with it."""
    if ((step.app, step.name) in read_recorder(alias)) is applied:
        return
    executor = MigrationExecutor(connections[alias])
    executor.recorder.ensure_schema()
    with transaction.atomic(using=alias):
        executor.record_migration(step.app, step.name, forward=applied)
