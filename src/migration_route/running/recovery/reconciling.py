"""What has a partial run left, now that nobody is at work? Asked and settled under the
lock of its database.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, transaction
from django.db.migrations.executor import MigrationExecutor

from migration_route.catalog.reading import StepReading
from migration_route.connecting import new_connection, own_connection
from migration_route.errors import ActiveRun, OrphanBackend, Refused
from migration_route.ledger.records import OperationEvidence, RunRecord, StepRecord
from migration_route.planning.graph import read_recorder
from migration_route.planning.sql import AT_THE_END
from migration_route.running.recovery.evidence import read_operations
from migration_route.vendors import vendor_of
from migration_route.vendors.interface import Slot
from migration_route.vocabulary import Direction, Presence, StepState


@contextmanager
def held(database: str) -> Iterator[None]:
    """Hold the lock of a database, as a run does, with a connection of one's own behind
    its alias. Raises `ActiveRun` or `OrphanBackend` where somebody is at work."""
    connection = new_connection(database)
    vendor = vendor_of(database)
    lock = vendor.lock(connection, Slot.SUPERVISOR)
    try:
        if not lock.try_acquire():
            raise ActiveRun(f"Something else is migrating {database!r} at this moment.")
        try:
            worker_lock = vendor.lock(connection, Slot.WORKER)
            if not worker_lock.try_acquire():
                raise OrphanBackend
            try:
                with own_connection(database):
                    yield
            finally:
                worker_lock.release()
        finally:
            lock.release()
    finally:
        connection.close()


def step_left(run: RunRecord) -> tuple[int, StepRecord]:
    """Return the step that stopped midway, with its position in the run."""
    for position, step in enumerate(run.steps):
        if step.state is StepState.PARTIAL:
            return position, step
    raise Refused(f"No step of run {run.id} stopped midway.", run=run.id)


def reading_of(run: RunRecord, step: StepRecord) -> StepReading:
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
            state=recorded.get(one.position, Presence.UNKNOWN)
            if one.state is Presence.UNKNOWN
            else one.state,
        )
        for one in reading.operations
    ]
    if reading.end is not Presence.UNKNOWN:
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
    wanted = Presence.IN if carried_out else Presence.OUT
    by_catalog = evidence_now(_without_record(step), reading)
    return tuple(
        found for found in by_catalog if found.state not in {wanted, Presence.UNKNOWN}
    )


def _without_record(step: StepRecord) -> StepRecord:
    return StepRecord.from_dict({**step.to_dict(), "operations": None})


def first_to_resume(step: StepRecord, reading: StepReading) -> tuple[int, str]:
    """Return how many operations are proved to be carried out, so that the next one can
    begin; and why that cannot be proved, or "". One that lacks only the dropping of a
    default counts: whoever resumes drops it."""
    if step.rolls_back:
        return 0, "It runs in one transaction: there is nothing inside of it to resume at."
    count = len(reading.operations)
    states = [found.state for found in evidence_now(step, reading)[:count]]
    carried_out = [
        state is Presence.IN or one.lacks_only_a_drop
        for state, one in zip(states, reading.operations, strict=True)
    ]
    done = carried_out.index(False) if False in carried_out else count
    for number in range(done, count):
        one = reading.operations[number]
        name = f"Operation {one.position + 1} ({one.description})"
        if states[number] is Presence.OUT or one.is_harmless or one.is_only_invalid:
            continue
        if number > done and states[number] is Presence.UNKNOWN:
            continue  # nothing of it was sent
        reason = {
            Presence.UNKNOWN: "had begun, and nothing shows how far it came",
            Presence.MIDWAY: "is half done",
            Presence.IN: "is there, though one before it is not",
        }[states[number]]
        return done, f"{name} {reason}."
    return done, ""


def record(alias: str, step: StepRecord, *, applied: bool) -> None:
    """Let Django's recorder say that a migration is applied, or that it is not, through
    `connections[alias]`; what a squashed one replaces with it."""
    if ((step.app, step.name) in read_recorder(alias)) is applied:
        return
    executor = MigrationExecutor(connections[alias])
    executor.recorder.ensure_schema()
    with transaction.atomic(using=alias):
        executor.record_migration(step.app, step.name, forward=applied)
