"""Show runs, and what happened in them."""

from __future__ import annotations

import time

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise, may
from migration_route.ledger import reading
from migration_route.ledger.records import Happenings, RunRecord
from migration_route.operations.ids import checked
from migration_route.operations.recording import on_record
from migration_route.operations.releasing import look_after
from migration_route.targets import find_target
from migration_route.vocabulary import Scope

_FIRST_PAUSE = 0.03
_LONGEST_PAUSE = 0.5


def show(run: str, actor: Actor) -> RunRecord:
    """Return a run as it truly is. Raises `UnknownRun`, `Unauthenticated`, `Forbidden`."""
    with on_record(actor, "show", run=run):
        authorise(actor, Scope.READ)
        found = reading.find_run(checked(run, of="run"))
        authorise(actor, Scope.READ, database=found.database)
        return look_after(found)


def list_all(
    actor: Actor,
    *,
    database: str | None = None,
    before: str | None = None,
    limit: int = 20,
) -> list[RunRecord]:
    """Return the runs that the actor may read, newest first."""
    with on_record(actor, "runs", database=database or ""):
        authorise(actor, Scope.READ, database=database)
        if database is not None:
            find_target(database)
        if before is not None:
            checked(before, of="run")
        found = reading.list_runs(database=database, before=before, limit=limit)
        return [look_after(run) for run in found if may(actor, Scope.READ, run.database)]


def happenings(run: str, actor: Actor, *, after: int = 0, limit: int = 500) -> Happenings:
    """Return the events of a run behind a number, in order."""
    found = show(run, actor)  # read first: an ended run gets no more events
    events = tuple(reading.list_events(run, after=after, limit=limit))
    last = events[-1].number if events else after
    return Happenings(
        events=events, last=last, ended=not found.is_active and last >= found.last_event
    )


def wait(run: str, actor: Actor, *, seconds: float) -> RunRecord:
    """Return the run when it has ended, or after so many seconds."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while True:
        found = show(run, actor)
        left = deadline - time.monotonic()
        if not found.is_active or left <= 0:
            return found
        time.sleep(min(pause, left))
        pause = min(pause * 1.2, _LONGEST_PAUSE)
