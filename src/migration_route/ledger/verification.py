"""Is the ledger as it was written?

How many runs, how long, how many entries? What a scrape counts, at a bounded cost.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from django.db.models import Count, Max, Model, QuerySet

from migration_route.conf import route_settings
from migration_route.core.enums import ENDED_STATES, Action
from migration_route.ledger.bootstrap import is_installed
from migration_route.ledger.evidence import facts_of
from migration_route.ledger.hashchain import (
    GENESIS,
    ChainBreak,
    Line,
    first_break,
    link,
    written,
)
from migration_route.ledger.queries import read
from migration_route.ledger.records import RunRecord, event_record, run_records
from migration_route.models import Entry, Event, Run

Row = TypeVar("Row", bound=Model)

_BATCH = 1000
_VOUCHING = (Action.STEP_FINISHED, Action.RUN_STATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What a walk along the whole ledger found."""

    entries: int  # how many hold, from the first one
    broken: ChainBreak | None

    @property
    def intact(self) -> bool:
        """Tell whether every line is as it was written."""
        return self.broken is None


def verify() -> Verification:
    """Walk the chain of entries, and the chains of events that entries vouch for."""
    alias = route_settings().ledger_database
    if not is_installed(alias):
        return Verification(entries=0, broken=None)
    held, broken = first_break(_lines(alias))
    return Verification(entries=held, broken=broken or _first_changed_event(alias))


def _in_batches(rows: QuerySet[Row], key: str) -> Iterator[Row]:
    """Go through rows in the order of a unique key, with one query for each batch: a cursor
    of the server would need its session, which a pooler of transactions does not keep."""
    batch = list(rows.order_by(key)[:_BATCH])
    while batch:
        yield from batch
        last = getattr(batch[-1], key)
        batch = list(rows.filter(**{f"{key}__gt": last}).order_by(key)[:_BATCH])


def _lines(alias: str) -> Iterator[Line]:
    yield from map(line_of, _in_batches(Entry.objects.using(alias), "sequence"))


def line_of(row: Entry) -> Line:
    """Return an entry as the chain covers it."""
    return Line(
        sequence=row.sequence,
        words={
            "uid": row.uid,
            "at": row.at,
            "action": row.action,
            "actor_kind": row.actor_kind,
            "actor_name": row.actor_name,
            "address": row.address,
            "database": row.database,
            "run": row.run,
            "build": row.build,
            "facts": facts_of(row.facts),
        },
        previous=row.previous,
        digest=row.digest,
    )


def export_batch(after: int) -> tuple[bytes, int]:
    """Return the next lines of an export behind a sequence number, and the number of the
    last one; no lines where there are no more, or no ledger."""

    def query(alias: str) -> tuple[bytes, int]:
        rows = Entry.objects.using(alias).filter(sequence__gt=after).order_by("sequence")
        lines = [line_of(row) for row in rows[:_BATCH]]
        last = lines[-1].sequence if lines else after
        return b"".join(map(written, lines)), last

    return read(query, empty=(b"", after))


def _first_changed_event(alias: str) -> ChainBreak | None:
    """Compare the events of each run with what entries vouch for: the ends of its steps
    and its own end."""
    vouched: dict[str, dict[int, tuple[int, str]]] = {}
    rows = Entry.objects.using(alias).filter(action__in=_VOUCHING)
    for row in _in_batches(rows.only("sequence", "run", "facts"), "sequence"):
        said = facts_of(row.facts)
        if isinstance(said.get("events"), int):
            promise = (row.sequence, str(said.get("events_digest")))
            vouched.setdefault(row.run, {})[said["events"]] = promise
    for run, promises in vouched.items():
        if (broken := _first_broken_promise(alias, run, promises)) is not None:
            return broken
    return None


def _first_broken_promise(
    alias: str, run: str, promises: dict[int, tuple[int, str]]
) -> ChainBreak | None:
    held, broken = first_break(_event_lines(alias, run))
    digests = dict(
        Event.objects.using(alias)
        .filter(run=run, number__in=list(promises))
        .values_list("number", "digest")
    )
    for number, (sequence, digest) in promises.items():
        if number and (number > held or digests.get(number) != digest):
            return ChainBreak(
                sequence=sequence,
                message=f"The events of run {run} up to {number} are not those that "
                f"line {sequence} vouches for.",
            )
    if broken is None:
        return None
    sequence, _ = promises[max(promises)]
    return ChainBreak(
        sequence=sequence, message=f"Of the events of run {run}: {broken.message}"
    )


def _event_lines(alias: str, run: str) -> Iterator[Line]:
    previous = GENESIS
    for row in _in_batches(Event.objects.using(alias).filter(run=run), "number"):
        event = event_record(row)
        yield Line(
            sequence=event.number,
            words=event.words(),
            previous=previous,
            digest=event.digest,
        )
        previous = event.digest


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
