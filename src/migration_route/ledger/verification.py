"""Verifies and exports the chain of the ledger, and counts runs and entries for metrics.

The cost of what a metrics scrape reads does not grow with the number of entries.
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
from migration_route.ledger.hashchain import (
    GENESIS,
    ChainBreak,
    ChainHead,
    Line,
    event_break,
    event_lines,
    export_line,
    first_break,
    link,
    recorded_events,
)
from migration_route.ledger.queries import read
from migration_route.ledger.records import RunRecord, event_record, run_records
from migration_route.ledger.step_evidence import parse_facts
from migration_route.models import Entry, Event, Run, columns_of

Row = TypeVar("Row", bound=Model)

_BATCH = 1000
_EVENT_DIGEST_ACTIONS = (Action.STEP_FINISHED, Action.RUN_STATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """The result of verifying the whole ledger."""

    entries: int  # intact entries, counted from the first
    broken: ChainBreak | None
    head: ChainHead | None = None  # of an intact ledger; None: it has no entry

    @property
    def intact(self) -> bool:
        return self.broken is None


def verify(head: ChainHead | None = None) -> Verification:
    """Verify the chain of entries, and the event chains whose digests entries contain.

    With the head of an earlier time, also that the ledger still contains that entry.
    """
    alias = route_settings().ledger_database
    if not is_installed(alias):
        return Verification(
            entries=0, broken=None if head is None else head.find_break(None, last=0)
        )
    intact, broken = first_break(_lines(alias))
    broken = broken or _first_changed_event(alias)
    if broken is None and head is not None:
        broken = head.find_break(_digest_at(alias, head.sequence), last=intact)
    if broken is not None or not intact:
        return Verification(entries=intact, broken=broken)
    digest = _digest_at(alias, intact) or ""
    last = ChainHead(sequence=intact, digest=digest)
    return Verification(entries=intact, broken=None, head=last)


def _digest_at(alias: str, sequence: int) -> str | None:
    entries = Entry.objects.using(alias).filter(sequence=sequence)
    return entries.values_list("digest", flat=True).first()


def chain_head() -> ChainHead | None:
    """Return the newest entry of the ledger; None if it has none."""

    def query(alias: str) -> ChainHead | None:
        entries = Entry.objects.using(alias).order_by("-sequence")
        last = entries.values("sequence", "digest").first()
        return None if last is None else ChainHead(**last)

    return read(query, empty=None)


def lines_of_run(run: str) -> list[Line]:
    """Return the entries of a run as lines of the chain, oldest first."""

    def query(alias: str) -> list[Line]:
        entries = Entry.objects.using(alias).filter(run=run)
        return [chain_line(row) for row in _in_batches(entries, "sequence")]

    return read(query, empty=[])


def _in_batches(rows: QuerySet[Row], key: str) -> Iterator[Row]:
    """Yield rows in the order of a unique key, with one query per batch.

    A server-side cursor needs a session, which a transaction pooler does not keep.
    """
    batch = list(rows.order_by(key)[:_BATCH])
    while batch:
        yield from batch
        last = getattr(batch[-1], key)
        batch = list(rows.filter(**{f"{key}__gt": last}).order_by(key)[:_BATCH])


def _lines(alias: str) -> Iterator[Line]:
    yield from map(chain_line, _in_batches(Entry.objects.using(alias), "sequence"))


def chain_line(row: Entry) -> Line:
    """Return an entry as a line of the chain."""
    words = {**columns_of(row), "facts": parse_facts(row.facts)}
    position = {key: words.pop(key) for key in ("sequence", "previous", "digest")}
    return Line(words=words, **position)


def export_batch(after: int) -> tuple[bytes, int]:
    """Return the export lines after a sequence number, and the number of the last one.

    Returns no lines at the end, or if the ledger is not installed.
    """

    def query(alias: str) -> tuple[bytes, int]:
        rows = Entry.objects.using(alias).filter(sequence__gt=after).order_by("sequence")
        lines = [chain_line(row) for row in rows[:_BATCH]]
        last = lines[-1].sequence if lines else after
        return b"".join(map(export_line, lines)), last

    return read(query, empty=(b"", after))


def _first_changed_event(alias: str) -> ChainBreak | None:
    """Compare the events of each run with the digests in its entries."""
    recorded: dict[str, dict[int, tuple[int, str]]] = {}
    rows = Entry.objects.using(alias).filter(action__in=_EVENT_DIGEST_ACTIONS)
    for row in _in_batches(rows.only("sequence", "run", "facts"), "sequence"):
        found = recorded_events(parse_facts(row.facts), row.sequence)
        if found:
            recorded.setdefault(row.run, {}).update(found)
    for run, of_run in recorded.items():
        if (broken := _first_event_mismatch(alias, run, of_run)) is not None:
            return broken
    return None


def _first_event_mismatch(
    alias: str, run: str, recorded: dict[int, tuple[int, str]]
) -> ChainBreak | None:
    events = Event.objects.using(alias).filter(run=run)
    rows = _in_batches(events, "number")
    intact, broken = first_break(event_lines(event_record(row).to_dict() for row in rows))
    numbered = events.filter(number__in=list(recorded))
    digests = dict(numbered.values_list("number", "digest"))
    return event_break(run, recorded, digests, intact, broken)


_TAIL = 100  # newest entries that each metrics scrape verifies


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCount:
    """The number of runs of a database with one state and outcome."""

    database: str
    state: str
    outcome: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerMeasure:
    """The number of entries, and whether the newest ones are intact."""

    entries: int
    is_tail_intact: bool


def count_runs() -> list[RunCount]:
    """Return the number of runs by database, state and outcome."""

    def query(alias: str) -> list[RunCount]:
        rows = Run.objects.using(alias).order_by().values("database", "state", "outcome")
        return [RunCount(**row) for row in rows.annotate(count=Count("id"))]

    return read(query, empty=[])


def last_ended(databases: Collection[str]) -> list[RunRecord]:
    """Return the newest ended run of each database."""

    def query(alias: str) -> list[RunRecord]:
        rows = Run.objects.using(alias).filter(state__in=ENDED_STATES)
        rows = rows.filter(database__in=list(databases)).order_by()
        newest = rows.values("database").annotate(newest=Max("id"))
        ids = [row["newest"] for row in newest]
        return run_records(Run.objects.using(alias).filter(pk__in=ids))

    return read(query, empty=[])


def measure_ledger() -> LedgerMeasure:
    """Return the number of entries, and verify the newest ones.

    Only `ledger verify` verifies the whole ledger: the cost of a scrape must not grow with
    the number of entries.
    """

    def query(alias: str) -> LedgerMeasure:
        rows = list(Entry.objects.using(alias).order_by("-sequence")[: _TAIL + 1])[::-1]
        lines = [chain_line(row) for row in rows]
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
