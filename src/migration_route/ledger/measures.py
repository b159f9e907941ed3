"""How many runs, how long, how many entries? What a scrape counts, at a bounded cost."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise

from django.db.models import Count, Max

from migration_route.ledger.chain import GENESIS, link
from migration_route.ledger.reading import read
from migration_route.ledger.records import RunRecord, run_records
from migration_route.ledger.verification import line_of
from migration_route.models import Entry, Run
from migration_route.vocabulary import ENDED_STATES

_TAIL = 100  # entries whose chain is walked at each scrape


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCount:
    """How many runs of a database have this state and outcome."""

    database: str
    state: str
    outcome: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerMeasure:
    """How long the ledger is, and whether its last lines are as they were written."""

    entries: int
    is_tail_intact: bool


def count_runs() -> list[RunCount]:
    """Return the number of runs by database, state and outcome."""

    def query(alias: str) -> list[RunCount]:
        rows = Run.objects.using(alias).order_by().values("database", "state", "outcome")
        return [RunCount(**row) for row in rows.annotate(count=Count("id"))]

    return read(query, empty=[])


def last_ended(databases: Collection[str]) -> list[RunRecord]:
    """Return the run of each database that has ended last."""

    def query(alias: str) -> list[RunRecord]:
        rows = Run.objects.using(alias).filter(state__in=ENDED_STATES)
        rows = rows.filter(database__in=list(databases)).order_by()
        newest = rows.values("database").annotate(newest=Max("id"))
        ids = [row["newest"] for row in newest]
        return run_records(Run.objects.using(alias).filter(pk__in=ids))

    return read(query, empty=[])


def measure_ledger() -> LedgerMeasure:
    """Return how long the ledger is, and walk its last lines. The whole of it is walked by
    `ledger verify` alone: a scrape must cost the same after years."""

    def query(alias: str) -> LedgerMeasure:
        rows = list(Entry.objects.using(alias).order_by("-sequence")[: _TAIL + 1])[::-1]
        lines = [line_of(row) for row in rows]
        is_whole = len(rows) <= _TAIL
        intact = not lines or not is_whole or lines[0].previous == GENESIS
        intact = intact and all(
            line.digest == link(line.previous, line.words) for line in lines
        )
        intact = intact and all(
            line.previous == before.digest and line.sequence == before.sequence + 1
            for before, line in pairwise(lines)
        )
        return LedgerMeasure(
            entries=lines[-1].sequence if lines else 0, is_tail_intact=intact
        )

    return read(query, empty=LedgerMeasure(entries=0, is_tail_intact=True))
