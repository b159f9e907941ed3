"""What does the ledger know? Reads never create anything, and work with no table."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

from django.db import Error as DatabaseFailure
from django.db import connections
from django.db.models import Q, QuerySet

from migration_route import clock
from migration_route.conf import route_settings
from migration_route.errors import DatabaseUnavailable, UnknownRun
from migration_route.ledger import sidecar
from migration_route.ledger.database_time import read_time
from migration_route.ledger.installation import is_installed
from migration_route.ledger.opening import repeated
from migration_route.ledger.permits import refuse_used_permit
from migration_route.ledger.records import (
    EntryRecord,
    EventRecord,
    RunRecord,
    StepRecord,
    entry_record,
    event_record,
    run_record,
)
from migration_route.models import Entry, Event, Run
from migration_route.vocabulary import ACTIVE_STATES, Asked, Direction, RunState

Found = TypeVar("Found")


def read(query: Callable[[str], Found], *, empty: Found) -> Found:
    """Read from the ledger, or return `empty` where there is none yet.

    Raises `DatabaseUnavailable`.
    """
    alias = route_settings().ledger_database
    try:
        return query(alias)
    except DatabaseFailure as error:
        if not _has_ledger(alias):
            return empty
        first = error
    try:
        return query(alias)  # it was installed, or the session renewed, in this moment
    except DatabaseFailure:
        raise DatabaseUnavailable("The ledger cannot be read now.") from first


def _has_ledger(alias: str) -> bool:
    try:
        return is_installed(alias)
    except DatabaseFailure as error:
        connections[alias].close()
        raise DatabaseUnavailable(
            f"The database {alias!r}, which holds the ledger, does not answer."
        ) from error


def find_run(run: str) -> RunRecord:
    """Return a run as it is now. Raises `UnknownRun`."""
    row = read(lambda alias: Run.objects.using(alias).filter(pk=run).first(), empty=None)
    if row is None:
        raise UnknownRun(f"There is no run {run!r}.")
    return _with_sidecar(run_record(row))


def list_runs(*, database: str | None, before: str | None, limit: int) -> list[RunRecord]:
    """Return runs, newest first, of all databases or one, older than a cursor."""

    def query(alias: str) -> list[RunRecord]:
        rows: QuerySet[Run] = Run.objects.using(alias).order_by("-id")
        if database is not None:
            rows = rows.filter(database=database)
        if before is not None:
            rows = rows.filter(id__lt=before)
        return [_with_sidecar(run_record(row)) for row in rows[:limit]]

    return read(query, empty=[])


def active_runs() -> dict[str, RunRecord]:
    """Return the run that owns each database, by alias."""
    return {run.database: run for run in _in_states(ACTIVE_STATES)}


def unresolved_runs() -> dict[str, str]:
    """Return the id of the run that left a database in between, by alias."""
    return {run.database: run.id for run in _in_states({RunState.PARTIAL})}


def standing_runs() -> list[RunRecord]:
    """Return, at one look, the runs that own a database or left one in between."""
    return _in_states(ACTIVE_STATES | {RunState.PARTIAL})


def _in_states(states: Collection[RunState]) -> list[RunRecord]:
    def query(alias: str) -> list[RunRecord]:
        rows = Run.objects.using(alias).filter(state__in=states).order_by("id")
        return [run_record(row) for row in rows]

    return read(query, empty=[])


def first_deferrals(database: str) -> dict[str, tuple[str, str]]:
    """Return since when steps have been put off, and by which build: by "app.name", the
    end of the first run that went well without them."""

    def query(alias: str) -> dict[str, tuple[str, str]]:
        rows = Run.objects.using(alias).filter(database=database).order_by("id")
        went_well = Q(state__in=[RunState.SUCCEEDED, RunState.NOOP]) & ~Q(deferred="")
        found: dict[str, tuple[str, str]] = {}
        for row in rows.filter(went_well | Q(direction=Direction.BACKWARDS)):
            run = run_record(row)
            for step in run.steps:
                found.pop(step.label, None)  # taken back: what was before does not count
            for left in run.deferred:
                found.setdefault(left.label, (run.finished_at, left.build))
        return found

    return read(query, empty={})


def find_repeated(key: str | None, request_digest: str) -> RunRecord | None:
    """Return the run that this Idempotency-Key began before, if any.

    Raises `IdempotencyMismatch` when the key came with another request.
    """
    return read(lambda _: repeated(key, request_digest), empty=None)


def refuse_permit_of_a_run(permit: str | None) -> None:
    """Raise `PermitUsed`, naming the run, when a run bears this permit."""
    read(lambda _: refuse_used_permit(permit), empty=None)


def run_of_permit(permit: str) -> RunRecord | None:
    """Return the run that bears this permit, if any."""
    row = read(
        lambda alias: Run.objects.using(alias).filter(permit=permit).first(), empty=None
    )
    return None if row is None else _with_sidecar(run_record(row))


def last_use(*, kind: str, credential: str) -> str | None:
    """Return when the ledger last tells of a credential, by its id; None if never."""

    def query(alias: str) -> str | None:
        rows = Entry.objects.using(alias).filter(
            actor_kind=kind, facts__contains=f'"id":"{credential}"'
        )
        return rows.order_by("-sequence").values_list("at", flat=True).first()

    return read(query, empty=None)


def list_events(run: str, *, after: int, limit: int) -> list[EventRecord]:
    """Return events of a run in order, from the number behind `after`."""

    def query(alias: str) -> list[EventRecord]:
        rows = Event.objects.using(alias).filter(run=run, number__gt=after)
        return [event_record(row) for row in rows.order_by("number")[:limit]]

    nothing: list[EventRecord] = []
    events = read(query, empty=nothing)
    if len(events) < limit and (file := _run_file(run)):
        last = events[-1].number if events else after
        found = (line["event"] for line in file.read() if "event" in line)
        events += [EventRecord(**event) for event in found if event["number"] > last][
            : limit - len(events)
        ]
    return events


def list_entries(
    *, before: int | None, limit: int, databases: Collection[str] | None = None
) -> list[EntryRecord]:
    """Return entries, newest first, older than a cursor, of all databases or some."""

    def query(alias: str) -> list[EntryRecord]:
        rows: QuerySet[Entry] = Entry.objects.using(alias).order_by("-sequence")
        if before is not None:
            rows = rows.filter(sequence__lt=before)
        if databases is not None:
            rows = rows.filter(database__in=list(databases))
        return [entry_record(row) for row in rows[:limit]]

    return read(query, empty=[])


def since_heartbeat(heartbeat_at: str) -> timedelta:
    """Return how far a heartbeat is from now, by the clock of the ledger's database.

    One in the future proves as little as one that is as far in the past: the server's
    clock was set back, or another clock has written it.
    """
    now = read(read_time, empty=clock.now())
    return abs(clock.parsed(now) - clock.parsed(heartbeat_at))


def silence(run: RunRecord) -> timedelta:
    """Return for how long a run has shown no heartbeat."""
    still = since_heartbeat(run.heartbeat_at)
    if file := _run_file(run.id):
        beaten_at = file.beaten_at()
        if beaten_at is not None:
            still = min(still, abs(clock.since_epoch(beaten_at)))
    return still


def _run_file(run: str) -> sidecar.RunFile | None:
    folder = sidecar.folder_of(route_settings().ledger_database)
    return sidecar.RunFile(folder, run) if folder and folder.exists() else None


def _with_sidecar(record: RunRecord) -> RunRecord:
    """Show a run as far as it has come, though the tables cannot be written."""
    if not record.is_active or not (file := _run_file(record.id)):
        return record
    record = _with_wishes(record, file.asked)
    steps, last = record.steps, record.last_event
    latest: list[dict[str, Any]] = []
    for line in file.read():
        if found := line.get("steps"):
            latest = found
        elif event := line.get("event"):
            last = max(last, event["number"])
    if latest:
        steps = tuple(StepRecord.from_dict(step) for step in latest)
    return record.with_steps(steps, last_event=last)


def _with_wishes(record: RunRecord, words: frozenset[str]) -> RunRecord:
    """Show what was asked of a run beside the tables as if it stood in them."""
    for word in (Asked.FORCE, Asked.CANCEL, Asked.HOLD):
        if word in words:
            stops = word is not Asked.HOLD and record.state is RunState.RUNNING
            state = RunState.CANCELLING if stops else record.state
            return replace(record, state=state, asked=word)
    return record
