"""What does the ledger know? Reads never create anything, and work with no table.

How often was a person denied something lately?

How long did the same step take before?
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from django.db import Error as DatabaseFailure
from django.db import connections
from django.db.models import Max, Q, QuerySet

from migration_route.conf import route_settings
from migration_route.core import clock
from migration_route.core.enums import (
    ACTIVE_STATES,
    Action,
    ActorKind,
    ControlRequest,
    Direction,
    Mode,
    RunState,
    StepState,
)
from migration_route.core.errors import DatabaseUnavailable, UnknownRun
from migration_route.ledger import spool
from migration_route.ledger.bootstrap import is_installed
from migration_route.ledger.database_time import read_time
from migration_route.ledger.records import (
    EntryRecord,
    EventRecord,
    RunRecord,
    StepRecord,
    deferred_records,
    entry_record,
    event_record,
    run_record,
    run_records,
)
from migration_route.ledger.runs import refuse_used_permit, repeated
from migration_route.models import Entry, Event, Run
from migration_route.vendors import open_connection, unavailable
from migration_route.vendors.error_causes import refusal_of

Found = TypeVar("Found")
_BATCH = 500  # rows that are in memory at a time
LOOKED_AT = 10_000
"""Entries, from the last one back, in which the use of a credential is looked for."""


def read(query: Callable[[str], Found], *, empty: Found) -> Found:
    """Read from the ledger, or return `empty` where there is none yet.

    Raises `DatabaseUnavailable`.
    """
    alias = route_settings().ledger_database
    open_connection(alias)
    try:
        return query(alias)
    except DatabaseFailure as error:
        if not _has_ledger(alias):
            return empty
        first = error
    try:
        return query(alias)  # it was installed, or the session renewed, in this moment
    except DatabaseFailure as error:
        refusal = refusal_of(error)
        why = f" {refusal.message}" if refusal else ""
        raise DatabaseUnavailable(f"The ledger cannot be read now.{why}") from first


def _has_ledger(alias: str) -> bool:
    try:
        return is_installed(alias)
    except DatabaseFailure as error:
        connections[alias].close()
        raise unavailable(alias, error) from error


def find_run(run: str) -> RunRecord:
    """Return a run as it is now. Raises `UnknownRun`."""
    row = read(lambda alias: Run.objects.using(alias).filter(pk=run).first(), empty=None)
    if row is None:
        raise UnknownRun(f"There is no run {run!r}.")
    return _with_sidecar(run_record(row))


def database_of(run: str) -> str:
    """Return the database of a run; "" where there is no such run. Raises
    `DatabaseUnavailable`."""
    found = read(
        lambda alias: (
            Run.objects.using(alias)
            .filter(pk=run)
            .values_list("database", flat=True)
            .first()
        ),
        empty=None,
    )
    return found or ""


def list_runs(*, database: str | None, before: str | None, limit: int) -> list[RunRecord]:
    """Return runs, newest first, of all databases or one, older than a cursor."""

    def query(alias: str) -> list[RunRecord]:
        rows: QuerySet[Run] = Run.objects.using(alias).order_by("-id")
        if database is not None:
            rows = rows.filter(database=database)
        if before is not None:
            rows = rows.filter(id__lt=before)
        return [_with_sidecar(record) for record in run_records(rows[:limit])]

    return read(query, empty=[])


def active_runs() -> dict[str, RunRecord]:
    """Return the run that owns each database, by alias."""
    return {run.database: run for run in _in_states(ACTIVE_STATES)}


def unresolved_runs() -> dict[str, str]:
    """Return the id of the run that left a database in between, by alias."""
    return {run.database: run.id for run in _in_states({RunState.PARTIAL})}


def open_runs() -> list[RunRecord]:
    """Return, at one look, the runs that own a database or left one in between."""
    return _in_states(ACTIVE_STATES | {RunState.PARTIAL})


def _in_states(states: Collection[RunState]) -> list[RunRecord]:
    def query(alias: str) -> list[RunRecord]:
        rows = Run.objects.using(alias).filter(state__in=states).order_by("id")
        return run_records(rows)

    return read(query, empty=[])


def first_deferrals(database: str) -> dict[str, tuple[str, str]]:
    """Return since when steps have been put off, and by which build: by "app.name", the
    end of the first run that went well without them."""

    def query(alias: str) -> dict[str, tuple[str, str]]:
        rows = Run.objects.using(alias).filter(database=database).order_by("id")
        went_well = Q(state__in=[RunState.SUCCEEDED, RunState.NOOP]) & ~Q(deferred="")
        found: dict[str, tuple[str, str]] = {}
        # These columns alone, and no approvals: this stands in every GET of a plan.
        columns = ("steps", "deferred", "finished_at")
        told = rows.filter(went_well | Q(direction=Direction.BACKWARDS))
        batch = list(told.values_list("id", *columns)[:_BATCH])
        while batch:
            for _, steps, deferred, at in batch:
                for step in json.loads(steps):
                    # Taken back: what was before does not count.
                    found.pop(f"{step['app']}.{step['name']}", None)
                for left in deferred_records(deferred):
                    found.setdefault(left.label, (at, left.build))
            later = told.filter(id__gt=batch[-1][0])
            batch = list(later.values_list("id", *columns)[:_BATCH])
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
    """Return when the last `LOOKED_AT` entries tell of a credential, by its id, if they do.

    The facts of an entry are text without an index: looking further back would read the
    whole ledger for each credential that is not in use.
    """

    def query(alias: str) -> str | None:
        last = Entry.objects.using(alias).aggregate(last=Max("sequence"))["last"] or 0
        rows = Entry.objects.using(alias).filter(
            sequence__gt=last - LOOKED_AT,
            actor_kind=kind,
            facts__contains=f'"id":"{credential}"',
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
    return abs(clock.parse_time(now) - clock.parse_time(heartbeat_at))


def heartbeat_age(run: RunRecord) -> timedelta:
    """Return for how long a run has shown no heartbeat."""
    still = since_heartbeat(run.heartbeat_at)
    if file := _run_file(run.id):
        beaten_at = file.beaten_at()
        if beaten_at is not None:
            still = min(still, abs(clock.since_epoch(beaten_at)))
    return still


def _run_file(run: str) -> spool.RunSpool | None:
    folder = spool.spool_dir(route_settings().ledger_database)
    return spool.RunSpool(folder, run) if folder and folder.exists() else None


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
    for word in (ControlRequest.FORCE, ControlRequest.CANCEL, ControlRequest.HOLD):
        if word in words:
            stops = word is not ControlRequest.HOLD and record.state is RunState.RUNNING
            state = RunState.CANCELLING if stops else record.state
            return replace(record, state=state, asked=word)
    return record


_LOOKED_AT = 1000
"""Entries from the end that are looked at: no more than so many rows are read."""


def count_denials(name: str, *, code: str, since: str) -> int:
    """Return how often this person was denied something with this code since then,
    among the last entries; 0 where there is no ledger, or it does not answer."""

    def query(alias: str) -> int:
        entries = Entry.objects.using(alias)
        last = entries.aggregate(last=Max("sequence"))["last"] or 0
        facts = entries.filter(
            sequence__gt=last - _LOOKED_AT,
            action=Action.DENIED,
            actor_kind=ActorKind.PERSON,
            actor_name=name,
            at__gte=since,
        ).values_list("facts", flat=True)
        return sum(json.loads(text).get("code") == code for text in facts)

    try:
        return read(query, empty=0)
    except DatabaseUnavailable:
        return 0


LOOKED_THROUGH = 100
"""Runs, the newest ones: what is older is not looked for."""

_DONE = frozenset((StepState.APPLIED, StepState.REVERTED))

StepKey = tuple[str, str, str, str]
"""A step by its app, name, direction and the digest of its source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDuration:
    """How long a step took, in milliseconds, where, and when it was asked for."""

    ms: int
    run: str
    database: str
    at: str


def previous_durations(steps: Collection[StepKey]) -> dict[StepKey, StepDuration]:
    """Return for each of these steps, as far as it came to its end in one of the last
    runs of any database, how long the newest of those took.

    Raises `DatabaseUnavailable`.
    """
    wanted = set(steps)
    found: dict[StepKey, StepDuration] = {}
    for run in (
        list_runs(database=None, before=None, limit=LOOKED_THROUGH) if wanted else ()
    ):
        if run.mode is not Mode.APPLY:
            continue  # what was only recorded took no time
        for step in run.steps:
            key = (step.app, step.name, step.direction, step.digest)
            resumed = step.done_operations is not None  # a part of it alone
            if step.state not in _DONE or step.duration_ms is None or resumed:
                continue
            if key in wanted and key not in found:
                found[key] = StepDuration(
                    ms=step.duration_ms,
                    run=run.id,
                    database=run.database,
                    at=run.created_at,
                )
    return found
