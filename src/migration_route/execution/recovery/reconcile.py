"""Determines and settles what a stopped step has left, under the lock of its database.

The durable record has the operation that started last; the catalog has what is present.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from django.db import connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from migration_route.conf.databases import private_connection, using_private_connection
from migration_route.core.enums import Direction, EffectState, Mode, StepState
from migration_route.core.errors import ActiveRun, Refused, SessionOrphaned
from migration_route.execution.recovery.introspection import (
    OperationReading,
    StepReading,
    read_step,
)
from migration_route.execution.supervisor.outcome import WorkerReport
from migration_route.execution.supervisor.run_lock import try_lock
from migration_route.ledger.records import RunRecord, StepRecord
from migration_route.ledger.step_evidence import (
    AddedOperations,
    OperationEvidence,
    StepError,
)
from migration_route.planning.graph import Key, read_recorder, without_translations
from migration_route.planning.sql import DEFERRED_SQL_DESCRIPTION
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot


def collect_evidence(
    report: WorkerReport,
    run: RunRecord,
    steps: tuple[StepRecord, ...],
    recorded: Collection[tuple[str, str]],
) -> WorkerReport:
    """Add what is known of the operations of the step under way to the report.

    Reads the catalog through `connections[database]`.
    """
    if report.current is None and steps and steps[0].done_operations is not None:
        report = replace(report, current=0)  # an earlier run left it half done
    if report.current is None or run.mode is not Mode.APPLY:
        return report
    step = steps[report.current]
    backwards = step.direction is Direction.BACKWARDS
    if ((step.app, step.name) in recorded) is not backwards:
        return report  # the recorder decides
    reading = read_step(run.database, step)
    if reading is None:
        return report
    return replace(report, operations=combine_evidence(step, reading, report))


def combine_evidence(
    step: StepRecord, reading: StepReading, report: WorkerReport
) -> tuple[OperationEvidence, ...]:
    """Combine record and catalog, operation by operation. Pure."""
    operations = reading.operations
    if step.rolls_back and not any(one.has_own_transaction for one in operations):
        states = _all_or_nothing(step, reading, report)
    else:
        states = [
            _operation_state(step, reading, number, report)
            for number in range(len(operations))
        ]
    found = [
        OperationEvidence(position=one.position, description=one.description, state=state)
        for one, state in zip(operations, states, strict=True)
    ]
    if reading.end is not EffectState.UNKNOWN:
        has_begun = step.begun == len(operations)
        gone = EffectState.ABSENT in states or not has_begun
        end = OperationEvidence(
            position=len(operations),
            description=DEFERRED_SQL_DESCRIPTION,
            state=EffectState.ABSENT if gone else reading.end,
        )
        found.append(end)
    return tuple(found)


def _all_or_nothing(
    step: StepRecord, reading: StepReading, report: WorkerReport
) -> list[EffectState]:
    """Return what a step in one transaction has left: all of it, or nothing.

    Before its end it cannot have been committed. A step that leaves no mark is recorded by
    the same transaction; if its worker raised, that is sufficient evidence.
    """
    count = len(reading.operations)
    seen = [operation.state for operation in reading.operations]
    if step.begun == count and EffectState.ABSENT not in seen:
        if EffectState.PRESENT in seen:
            return [EffectState.PRESENT] * count
        return [
            EffectState.UNKNOWN if report.ending is None else EffectState.ABSENT
        ] * count
    finished = _finished_count(step, report, count)
    if not {EffectState.PRESENT, EffectState.PARTIAL}.intersection(seen[:finished]):
        return [EffectState.ABSENT] * count
    # Something that this step created is present, so nothing was rolled back.
    return [*seen[:finished], *[EffectState.ABSENT] * (count - finished)]


def _finished_count(step: StepRecord, report: WorkerReport, count: int) -> int:
    """Return how many operations of a step in one transaction reached their end, by the
    report of its worker. 0 if it sent nothing: what is present was present before."""
    if not report.touching:
        return 0
    stopped = report.error.operation if report.error is not None else None
    if stopped is None:
        return count if report.wrote or report.ending is None else 0
    return count - 1 - stopped if step.direction is Direction.BACKWARDS else stopped


def _operation_state(
    step: StepRecord, reading: StepReading, number: int, report: WorkerReport
) -> EffectState:
    """Return what is known of one operation that is not rolled back with its step."""
    operation = reading.operations[number]
    if not step.added.is_matched:
        # The recorded numbers do not count the operations of the source.
        return EffectState.ABSENT if step.begun is None else operation.state
    begun = max(step.begun or 0, step.done_operations or 0)
    if number < begun:
        known = operation.state is not EffectState.UNKNOWN
        return operation.state if known else EffectState.PRESENT
    has_begun = step.begun == begun and step.added.begun is None
    if number == begun and has_begun:
        return _last_operation_state(operation, step, report)
    if number == step.done_operations and operation.state is EffectState.PARTIAL:
        return EffectState.PARTIAL  # as the resumed run left it
    return EffectState.ABSENT  # nothing of it was sent


def _commit_was_refused(error: StepError | None) -> bool:
    """Return whether the database has refused a COMMIT: a deferred constraint, or a
    transaction that it has rolled back (class 40 of SQLSTATE). A broken connection is no
    evidence either way."""
    if error is None:
        return False
    code = error.sqlstate or ""
    return error.type == "IntegrityError" or (len(code) == 5 and code.startswith("40"))


def _last_operation_state(
    operation: OperationReading, step: StepRecord, report: WorkerReport
) -> EffectState:
    """Return what is known of the operation that started last."""
    has_failed = report.ending is not None
    if operation.is_harmless:
        return EffectState.ABSENT
    if operation.has_own_transaction:
        # It is undone unless it was committed, and it was not before it returned.
        is_undone = not step.returned or _commit_was_refused(report.error)
        return EffectState.ABSENT if is_undone else EffectState.UNKNOWN
    if has_failed and not report.carried_out and not operation.is_only_invalid:
        return EffectState.ABSENT  # its first statement was refused and left nothing
    return operation.state


@contextmanager
def hold_database_lock(database: str) -> Iterator[None]:
    """Hold the lock of a database, as a run does, with a separate connection behind its
    alias. Raises `ActiveRun` or `SessionOrphaned` if another process or session is
    active."""
    vendor = vendor_of(database)
    with (
        closing(private_connection(database)) as connection,
        try_lock(vendor.lock(connection, LockSlot.SUPERVISOR)) as is_free,
    ):
        if not is_free:
            raise ActiveRun(f"Another process is migrating {database!r}.")
        with try_lock(vendor.lock(connection, LockSlot.WORKER)) as has_no_session:
            if not has_no_session:
                raise SessionOrphaned
            with using_private_connection(database):
                yield


def interrupted_step(run: RunRecord) -> tuple[int, StepRecord]:
    """Return the step that stopped midway, with its position in the run."""
    for position, step in enumerate(run.steps):
        if step.state is StepState.PARTIAL:
            return position, step
    raise Refused(f"No step of run {run.id} stopped midway.", run=run.id)


def compare_with_catalog(run: RunRecord, step: StepRecord) -> StepReading:
    """Compare the step with the current catalog. Raises `Refused` if its source is no
    longer the one that ran, or cannot be loaded."""
    reading = read_step(run.database, step)
    if reading is None:
        raise Refused(
            f"Cannot compare {step.label} with the database: its source is not the one "
            "that ran, or the migrations cannot be loaded.",
            hint="Repair the database and django_migrations by hand, then resolve as it "
            "is.",
            run=run.id,
        )
    return reading


def current_evidence(
    step: StepRecord, reading: StepReading
) -> tuple[OperationEvidence, ...]:
    """Return what is known of each operation, in the order of execution: by the current
    catalog, and where that shows nothing by the record of the run."""
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
                position=len(found), description=DEFERRED_SQL_DESCRIPTION, state=reading.end
            )
        )
    return tuple(found)


def contradictions(
    step: StepRecord, reading: StepReading, *, applied: bool
) -> tuple[OperationEvidence, ...]:
    """Return the evidence of the catalog against a migration being applied, or not being
    applied."""
    carried_out = applied is (step.direction is Direction.FORWARDS)
    wanted = EffectState.PRESENT if carried_out else EffectState.ABSENT
    by_catalog = current_evidence(replace(step, operations=None), reading)
    return tuple(
        found for found in by_catalog if found.state not in {wanted, EffectState.UNKNOWN}
    )


def resume_position(step: StepRecord, reading: StepReading) -> tuple[int, str]:
    """Return how many operations are proved complete, so that the next one can start; and
    why that cannot be proved, or "". An operation that lacks only the dropping of a default
    counts: the resumed run drops it."""
    if step.rolls_back:
        return 0, "It runs in one transaction, so it cannot be resumed in the middle."
    if not step.added.is_matched:
        return 0, (
            "Another package changed the list of its operations when it ran, so it is "
            "unknown which of them were executed."
        )
    if step.added.begun is not None and not step.added.repeatable:
        after = f" after operation {step.begun}" if step.begun else ""
        return 0, (
            f"An operation that another package added{after} had started, and it is "
            "unknown how far it got."
        )
    count = len(reading.operations)
    states = [found.state for found in current_evidence(step, reading)[:count]]
    carried_out = [
        state is EffectState.PRESENT or one.lacks_only_a_drop
        for state, one in zip(states, reading.operations, strict=True)
    ]
    done = carried_out.index(False) if False in carried_out else count
    for number in range(done, count):
        one = reading.operations[number]
        name = f"Operation {one.position + 1} ({one.description})"
        if states[number] is EffectState.ABSENT or one.is_harmless or one.is_only_invalid:
            continue
        if number > done and states[number] is EffectState.UNKNOWN:
            continue  # nothing of it was sent
        reason = {
            EffectState.UNKNOWN: "had started, and it is unknown how far it got",
            EffectState.PARTIAL: "is half done",
            EffectState.PRESENT: "is present, but an earlier one is not",
        }[states[number]]
        return done, f"{name} {reason}."
    return done, ""


def additions_to_resume(step: StepRecord) -> AddedOperations:
    """Return the operations that other packages had added to a step, with how many of them
    are complete."""
    added = step.added
    return AddedOperations(places=added.places, done=added.done_when(step.begun))


@without_translations()
def set_recorded(alias: str, step: StepRecord, *, applied: bool) -> None:
    """Record a migration in Django's recorder as applied or not applied, through
    `connections[alias]`; a squashed migration with what it replaces."""
    if ((step.app, step.name) in read_recorder(alias)) is applied:
        return
    executor = MigrationExecutor(connections[alias])
    executor.recorder.ensure_schema()
    # Django's own method for this differs between its versions.
    with transaction.atomic(using=alias):
        for app, name in _with_replaced((step.app, step.name), executor.loader):
            if applied:
                executor.recorder.record_applied(app, name)
            else:
                executor.recorder.record_unapplied(app, name)


def _with_replaced(key: Key, loader: MigrationLoader) -> Iterator[Key]:
    """Yield the migrations that a squashed one replaces, however deep, and itself."""
    migration = loader.disk_migrations.get(key)
    for replaced in migration.replaces if migration else ():
        yield from _with_replaced(replaced, loader)
    yield key
