"""Reads the ledger. Reads never create anything, and work when there is no table."""

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
    RunState,
)
from migration_route.core.errors import DatabaseUnavailable, UnknownRun
from migration_route.ledger import spool
from migration_route.ledger.bootstrap import is_installed
from migration_route.ledger.claims import read_time
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
from migration_route.ledger.runs import find_by_idempotency_key, refuse_used_permit
from migration_route.models import Entry, Event, Run
from migration_route.vendors import open_connection, refusal_of, unavailable

Found = TypeVar("Found")
_BATCH = 500  # rows in memory at a time
CREDENTIAL_SEARCH_LIMIT = 10_000
"""Number of newest entries that are searched for the use of a credential."""


def read(query: Callable[[str], Found], *, empty: Found) -> Found:
    """Return the result of a query, or `empty` if the ledger is not installed.

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
        return query(alias)  # the ledger was just installed, or the session was renewed
    except DatabaseFailure as error:
        refusal = refusal_of(error)
        why = f" {refusal.message}" if refusal else ""
        raise DatabaseUnavailable(f"Reading the ledger failed.{why}") from first


def _has_ledger(alias: str) -> bool:
    try:
        return is_installed(alias)
    except DatabaseFailure as error:
        connections[alias].close()
        raise unavailable(alias, error) from error


def find_run(run: str) -> RunRecord:
    """Return the current record of a run. Raises `UnknownRun`."""
    row = read(lambda alias: Run.objects.using(alias).filter(pk=run).first(), empty=None)
    if row is None:
        raise UnknownRun(f"Run {run!r} does not exist.")
    return _with_spool(run_record(row))


def state_of(run: str) -> RunState | None:
    """Return the state in the row of a run; None if the run does not exist.

    One column: a whole run can have hundreds of steps. Raises `DatabaseUnavailable`.
    """
    state = read(
        lambda alias: (
            Run.objects.using(alias).filter(pk=run).values_list("state", flat=True).first()
        ),
        empty=None,
    )
    return RunState(state) if state else None


def database_of(run: str) -> str:
    """Return the database of a run; "" if the run does not exist.

    Raises `DatabaseUnavailable`.
    """
    database = read(
        lambda alias: (
            Run.objects.using(alias)
            .filter(pk=run)
            .values_list("database", flat=True)
            .first()
        ),
        empty=None,
    )
    return database or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFilter:
    """Which runs to list; a field that is empty does not limit them."""

    state: str = ""
    actor: str = ""  # a part of the name, in any case
    migration: str = ""  # an app, "app.name", or "app.0005"
    since: str = ""  # a stored time
    until: str = ""

    def matches(self, run: RunRecord) -> bool:
        """Return whether the run has a step of the migration."""
        wanted = self.migration
        labels = [step.label for step in run.steps]
        return not wanted or any(
            label == wanted or label.startswith((f"{wanted}_", f"{wanted}."))
            for label in labels
        )


ALL_RUNS = RunFilter()


def list_runs(
    *,
    database: str | None,
    before: str | None,
    limit: int,
    wanted: RunFilter = ALL_RUNS,
) -> list[RunRecord]:
    """Return the runs of one or all databases before a cursor, newest first."""
    app, _, name = wanted.migration.partition(".")
    limits: dict[str, object] = {
        "database": database,
        "state": wanted.state,
        "actor_name__icontains": wanted.actor,
        "created_at__gte": wanted.since,
        "created_at__lt": wanted.until,
    }
    # Fewer rows to decode: the stored steps are JSON without spaces.
    words = [f'"app":"{app}"' if app else "", f'"name":"{name}' if name else ""]

    def query(alias: str) -> list[RunRecord]:
        rows: QuerySet[Run] = Run.objects.using(alias).order_by("-id")
        rows = rows.filter(**{name: value for name, value in limits.items() if value})
        for word in filter(None, words):
            rows = rows.filter(steps__contains=word)
        found: list[RunRecord] = []
        cursor = before
        while len(found) < limit:
            page = run_records((rows.filter(id__lt=cursor) if cursor else rows)[:limit])
            found += filter(wanted.matches, page)
            if len(page) < limit:
                break
            cursor = page[-1].id
        return [_with_spool(record) for record in found[:limit]]

    return read(query, empty=[])


def last_runs(databases: Collection[str]) -> dict[str, RunRecord]:
    """Return the newest run of each of these databases that has one, by alias."""

    def query(alias: str) -> dict[str, RunRecord]:
        rows = Run.objects.using(alias)
        # The ids are in the order of time.
        newest = rows.filter(database__in=databases).values("database")
        ids = [row["last"] for row in newest.annotate(last=Max("id"))]
        records = run_records(rows.filter(pk__in=ids))
        return {record.database: _with_spool(record) for record in records}

    return read(query, empty={})


def active_runs() -> dict[str, RunRecord]:
    """Return the run that owns each database, by alias."""
    return {run.database: run for run in _in_states(ACTIVE_STATES)}


def unresolved_runs() -> dict[str, str]:
    """Return the id of the unresolved partial run of each database, by alias."""
    return {run.database: run.id for run in _in_states({RunState.PARTIAL})}


def open_runs() -> list[RunRecord]:
    """Return the active and the unresolved partial runs, in one query."""
    return _in_states(ACTIVE_STATES | {RunState.PARTIAL})


def _in_states(states: Collection[RunState]) -> list[RunRecord]:
    def query(alias: str) -> list[RunRecord]:
        rows = Run.objects.using(alias).filter(state__in=states).order_by("id")
        return run_records(rows)

    return read(query, empty=[])


def first_deferrals(database: str) -> dict[str, tuple[str, str]]:
    """Return since when steps are deferred, and by which build, by "app.name".

    The time is the end of the first successful run that left the step out.
    """

    def query(alias: str) -> dict[str, tuple[str, str]]:
        rows = Run.objects.using(alias).filter(database=database).order_by("id")
        succeeded = Q(state__in=[RunState.SUCCEEDED, RunState.NOOP]) & ~Q(deferred="")
        deferrals: dict[str, tuple[str, str]] = {}
        # Only these columns and no approvals: every GET of a plan runs this query.
        columns = ("steps", "deferred", "finished_at")
        relevant = rows.filter(succeeded | Q(direction=Direction.BACKWARDS))
        batch = list(relevant.values_list("id", *columns)[:_BATCH])
        while batch:
            for _, steps, deferred, at in batch:
                for step in json.loads(steps):
                    # Applied or reverted since: an earlier deferral does not count.
                    deferrals.pop(f"{step['app']}.{step['name']}", None)
                for left in deferred_records(deferred):
                    deferrals.setdefault(left.label, (at, left.build))
            later = relevant.filter(id__gt=batch[-1][0])
            batch = list(later.values_list("id", *columns)[:_BATCH])
        return deferrals

    return read(query, empty={})


def find_repeated(key: str | None, request_digest: str) -> RunRecord | None:
    """Return the run that was created with this idempotency key, if any.

    Raises `IdempotencyMismatch` when the key was used with a different request.
    """
    return read(lambda _: find_by_idempotency_key(key, request_digest), empty=None)


def refuse_redeemed_permit(permit: str | None) -> None:
    """Raise `PermitUsed`, naming the run, when a run has used this permit."""
    read(lambda _: refuse_used_permit(permit), empty=None)


def run_of_permit(permit: str) -> RunRecord | None:
    """Return the run that has used this permit, if any."""
    row = read(
        lambda alias: Run.objects.using(alias).filter(permit=permit).first(), empty=None
    )
    return None if row is None else _with_spool(run_record(row))


def last_credential_use(*, kind: str, credential: str) -> str | None:
    """Return when a credential, by its id, was last used in the newest `LOOKED_AT` entries.

    The facts of an entry are text without an index: searching all entries would read the
    whole ledger for each unused credential.
    """

    def query(alias: str) -> str | None:
        last = Entry.objects.using(alias).aggregate(last=Max("sequence"))["last"] or 0
        rows = Entry.objects.using(alias).filter(
            sequence__gt=last - CREDENTIAL_SEARCH_LIMIT,
            actor_kind=kind,
            facts__contains=f'"id":"{credential}"',
        )
        return rows.order_by("-sequence").values_list("at", flat=True).first()

    return read(query, empty=None)


def list_events(
    run: str, *, after: int, limit: int, kinds: Collection[str] | None = None
) -> list[EventRecord]:
    """Return the events of a run in order, from number `after` + 1; of these kinds, or
    all."""

    def query(alias: str) -> list[EventRecord]:
        rows = Event.objects.using(alias).filter(run=run, number__gt=after)
        if kinds is not None:
            rows = rows.filter(kind__in=kinds)
        return [event_record(row) for row in rows.order_by("number")[:limit]]

    nothing: list[EventRecord] = []
    events = read(query, empty=nothing)
    if len(events) < limit and (file := _run_file(run)):
        last = events[-1].number if events else after
        spooled = (line["event"] for line in file.read() if "event" in line)
        found = [EventRecord(**event) for event in spooled if event["number"] > last]
        wanted = [one for one in found if kinds is None or one.kind in kinds]
        events += wanted[: limit - len(events)]
    return events


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFilter:
    """Which entries of the ledger to list; a field that is empty does not limit them."""

    run: str = ""
    database: str = ""
    actor: str = ""  # a part of the name, in any case
    actions: tuple[str, ...] = ()
    since: str = ""  # a stored time
    until: str = ""


ALL_ENTRIES = EntryFilter()


def list_entries(
    *,
    before: int | None,
    limit: int,
    databases: Collection[str] | None = None,
    wanted: EntryFilter = ALL_ENTRIES,
) -> list[EntryRecord]:
    """Return the entries of some or all databases that are older than a cursor.

    The newest entry comes first.
    """
    limits: dict[str, object] = {
        "run": wanted.run,
        "database": wanted.database,
        "actor_name__icontains": wanted.actor,
        "action__in": wanted.actions,
        "at__gte": wanted.since,
        "at__lt": wanted.until,
    }

    def query(alias: str) -> list[EntryRecord]:
        rows: QuerySet[Entry] = Entry.objects.using(alias).order_by("-sequence")
        rows = rows.filter(**{name: value for name, value in limits.items() if value})
        if before is not None:
            rows = rows.filter(sequence__lt=before)
        if databases is not None:
            rows = rows.filter(database__in=list(databases))
        return [entry_record(row) for row in rows[:limit]]

    return read(query, empty=[])


def since_heartbeat(heartbeat_at: str) -> timedelta:
    """Return the distance of a heartbeat from now, by the clock of the ledger's database.

    A heartbeat in the future proves as little as an equally old one: the server's clock
    was set back, or another clock wrote it.
    """
    now = read(read_time, empty=clock.now())
    return abs(clock.parse_time(now) - clock.parse_time(heartbeat_at))


def heartbeat_age(run: RunRecord) -> timedelta:
    """Return the time since the last heartbeat of a run, in the tables or the spool."""
    age = since_heartbeat(run.heartbeat_at)
    if file := _run_file(run.id):
        beaten_at = file.beaten_at()
        if beaten_at is not None:
            age = min(age, abs(clock.since_epoch(beaten_at)))
    return age


def _run_file(run: str) -> spool.RunSpool | None:
    folder = spool.spool_dir(route_settings().ledger_database)
    return spool.RunSpool(folder, run) if folder and folder.exists() else None


def _with_spool(record: RunRecord) -> RunRecord:
    """Add the progress that is in the spool while the tables cannot be written."""
    if not record.is_active or not (file := _run_file(record.id)):
        return record
    record = _with_spooled_control(record, file.control_requests)
    steps, last = record.steps, record.last_event
    latest: list[dict[str, Any]] = []
    for line in file.read():
        if steps_so_far := line.get("steps"):
            latest = steps_so_far
        elif event := line.get("event"):
            last = max(last, event["number"])
    if latest:
        steps = tuple(StepRecord.from_dict(step) for step in latest)
    return record.with_steps(steps, last_event=last)


def _with_spooled_control(record: RunRecord, words: frozenset[str]) -> RunRecord:
    """Show a control request of the spool as if it were in the tables."""
    for word in (ControlRequest.FORCE, ControlRequest.CANCEL, ControlRequest.PAUSE):
        if word in words:
            stops = word is not ControlRequest.PAUSE and record.state is RunState.RUNNING
            state = RunState.CANCELLING if stops else record.state
            return replace(record, state=state, control_request=word)
    return record


_DENIAL_WINDOW = 1000
"""Number of newest entries that are searched for denials."""


def count_denials(name: str, *, code: str, since: str) -> int:
    """Return how often this user was denied an action with this code since a time.

    Counts the newest entries only; 0 if the ledger is not installed or unavailable.
    """

    def query(alias: str) -> int:
        entries = Entry.objects.using(alias)
        last = entries.aggregate(last=Max("sequence"))["last"] or 0
        facts = entries.filter(
            sequence__gt=last - _DENIAL_WINDOW,
            action=Action.DENIED,
            actor_kind=ActorKind.USER,
            actor_name=name,
            at__gte=since,
        ).values_list("facts", flat=True)
        return sum(json.loads(text).get("code") == code for text in facts)

    try:
        return read(query, empty=0)
    except DatabaseUnavailable:
        return 0
