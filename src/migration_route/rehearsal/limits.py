"""What could a rehearsal not show, and why? Said plainly, in every report."""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.conf import route_settings
from migration_route.ledger.rehearsal_records import RehearsalRecord
from migration_route.ledger.rehearsal_report import Limit, SeenStep
from migration_route.rehearsal.hearing import Hearing
from migration_route.running.work.reporter import only_reads
from migration_route.vendors import copies_of
from migration_route.vocabulary import CopyKind

_MOST = 20


def of(record: RehearsalRecord, hearing: Hearing) -> tuple[Limit, ...]:
    """Return what this rehearsal could not show."""
    return tuple(_found(record, hearing))


def _found(record: RehearsalRecord, hearing: Hearing) -> Iterator[Limit]:
    if record.in_place:
        yield from _in_place(hearing)
        return
    way = route_settings().database(record.database).rehearse_on
    if way:
        yield Limit(
            code="another_database",
            message=f"It went over the database {way!r}, which is now where the plan "
            "leads: its rows and sizes are its own.",
        )
    elif record.kind is CopyKind.SCHEMA:
        yield Limit(
            code="schema_only",
            message="The copy had no rows: how long a step takes, how many rows it touches "
            "and whether the data lets it pass is not shown.",
        )
    if blind := copies_of(record.database).observer().blind:
        yield Limit(code="locks_not_seen", message=f"Locks were not observed: {blind}")
    for what in list(dict.fromkeys(hearing.denied))[:_MOST]:
        yield Limit(
            code="denied",
            message=f"A migration wanted to reach {what}. A rehearsal may not.",
        )
    for step in hearing.steps:
        yield from _of_step(step, blind=bool(blind))
    yield Limit(
        code="nobody_else",
        message="Nobody else was at work in the copy: waiting for locks, queues behind "
        "them, replication and load are not shown.",
    )


def _in_place(hearing: Hearing) -> Iterator[Limit]:
    yield from hearing.unrehearsed
    for what in list(dict.fromkeys(hearing.denied))[:_MOST]:
        yield Limit(
            code="denied",
            message=f"A migration wanted {what}. A rehearsal in place opens none.",
        )
    for step in hearing.steps:
        yield from _of_step(step, blind=False)
    yield Limit(
        code="after_the_commit",
        message="Nothing was committed: what comes after that did not run, such as the "
        "receivers of post_migrate, which make permissions and content types.",
    )
    yield Limit(
        code="one_transaction",
        message="All steps stood in one transaction. A lock that an earlier statement held "
        "already is not told again, each was held to the very end, and now() stood still.",
    )
    yield Limit(
        code="sequences",
        message="Sequences have gone on, and are not rolled back: numbers that were drawn "
        "stay unused.",
    )


def _of_step(step: SeenStep, *, blind: bool) -> Iterator[Limit]:
    unseen = [
        statement
        for operation in step.operations
        for statement in operation.statements
        if statement.locks is None
        and not statement.failed
        and not only_reads(statement.sql)
    ]
    if unseen and not blind:
        yield Limit(
            code="locks_outside_of_a_transaction",
            message=f"{len(unseen)} of its statements ran outside of a transaction: their "
            "locks went with them before anybody could look.",
            step=step.label,
        )
    if any(operation.runs_python for operation in step.operations):
        yield Limit(
            code="ran_python",
            message="It ran Python: what that does outside of the database, such as "
            "files, caches and requests, it has really done. Mails were dropped.",
            step=step.label,
        )
