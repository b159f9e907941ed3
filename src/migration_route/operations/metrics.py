"""Measure how everything stands, for a machine that asks again and again."""

from __future__ import annotations

from dataclasses import dataclass

from migration_route.access.actor import Actor
from migration_route.conf.recipients import recipients
from migration_route.errors import DatabaseUnavailable
from migration_route.ledger import measures, outbox
from migration_route.ledger.measures import LedgerMeasure, RunCount
from migration_route.ledger.outbox import Backlog
from migration_route.ledger.reading import find_run, silence
from migration_route.ledger.records import RunRecord
from migration_route.operations import status
from migration_route.planning.standing import DatabaseStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveRun:
    """A run that owns its database."""

    run: RunRecord
    silent_seconds: float  # since its heart last beat


@dataclass(frozen=True, slots=True, kw_only=True)
class FromTheLedger:
    """What only the ledger knows."""

    counts: tuple[RunCount, ...]
    last: tuple[RunRecord, ...]  # of each database, the run that has ended last
    active: tuple[ActiveRun, ...]
    ledger: LedgerMeasure
    backlogs: tuple[Backlog, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything, of those databases that the actor may read."""

    databases: tuple[DatabaseStatus, ...]
    known: FromTheLedger | None  # None: the ledger's database does not answer


def measure(actor: Actor) -> Measured:
    """Measure how everything stands now; it is read from the tables, so that every process
    answers the same. Works with no table at all.

    Raises `Unauthenticated` and `Forbidden`.
    """
    databases = tuple(status.status(actor))
    try:
        known = _from_the_ledger({found.database for found in databases}, databases)
    except DatabaseUnavailable:
        known = None
    return Measured(databases=databases, known=known)


def _from_the_ledger(
    aliases: set[str], databases: tuple[DatabaseStatus, ...]
) -> FromTheLedger:
    active = [find_run(found.active_run) for found in databases if found.active_run]
    return FromTheLedger(
        counts=tuple(each for each in measures.count_runs() if each.database in aliases),
        last=tuple(measures.last_ended(aliases)),
        active=tuple(
            ActiveRun(run=run, silent_seconds=silence(run).total_seconds())
            for run in active
            if run.is_active
        ),
        ledger=measures.measure_ledger(),
        backlogs=tuple(outbox.backlogs([each.name for each in recipients()])),
    )
