"""Returns runs, their events, the status of all databases, and readiness.

Readiness is public and cheap, and reveals nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import replace

from migration_route.access.actors import Actor, authorise, may
from migration_route.conf import route_settings
from migration_route.conf.databases import all_aliases, find_target
from migration_route.core.enums import (
    ACTIVE_STATES,
    OWN_APP,
    Action,
    EventKind,
    RunState,
    Scope,
)
from migration_route.core.errors import DatabaseUnavailable, RouteError
from migration_route.ledger import queries
from migration_route.ledger.queries import open_runs
from migration_route.ledger.records import EntryRecord, EventPage, EventRecord, RunRecord
from migration_route.planning import graph as graphs
from migration_route.planning import sources
from migration_route.planning.phases import with_deferral
from migration_route.planning.plan import DatabaseStatus, Deferred, StepPhase
from migration_route.planning.planner import (
    applied_for_fingerprint,
    pending,
    pending_phases,
)
from migration_route.planning.recorders import (
    Recorded,
    open_recorders,
    read_recorders,
)
from migration_route.services.audit import audited, require_valid_id
from migration_route.services.plans import deferrals_of
from migration_route.services.release import refresh


def ready() -> bool:
    """Whether no migration that this code requires is pending on any database.

    Migrations of the phase after the deploy are not required. Only the migration recorder
    of each database is read; nothing is written.
    """
    counted = route_settings().ready_databases
    aliases = all_aliases() if counted is None else counted
    found = read_recorders(aliases)
    return all(_is_ready(alias, recorded) for alias, recorded in found.items())


def _is_ready(alias: str, recorded: Recorded) -> bool:
    if isinstance(recorded, DatabaseUnavailable):
        return False
    try:
        graph = graphs.read_graph(alias, recorded)
    except RouteError:
        return False
    if any(phase.is_required for phase in pending_phases(graph, alias).values()):
        return False
    return route_settings().ready_when_ahead or not graph.ahead


_FIRST_PAUSE = 0.03
_LONGEST_PAUSE = 0.5
_REFRESH_INTERVAL = 1.0  # seconds between two checks of whether its processes are alive


def show(run: str, actor: Actor) -> RunRecord:
    """Return a refreshed run. Raises `UnknownRun`, `Unauthenticated`, `Forbidden`."""
    with audited(actor, "show", run=run):
        authorise(actor, Scope.READ)
        found = queries.find_run(require_valid_id(run, of="run"))
        authorise(actor, Scope.READ, database=found.database)
        return refresh(found)


def list_all(
    actor: Actor,
    *,
    database: str | None = None,
    before: str | None = None,
    limit: int = 20,
    wanted: queries.RunFilter = queries.ALL_RUNS,
) -> list[RunRecord]:
    """Return the runs that the actor may read, newest first."""
    with audited(actor, "runs", database=database or ""):
        authorise(actor, Scope.READ, database=database)
        if database is not None:
            find_target(database)
        if before is not None:
            require_valid_id(before, of="run")
        found = queries.list_runs(
            database=database, before=before, limit=limit, wanted=wanted
        )
        return [refresh(run) for run in found if may(actor, Scope.READ, run.database)]


def events(run: str, actor: Actor, *, after: int = 0, limit: int = 500) -> EventPage:
    """Return the events of a run after a number, in order."""
    found = show(run, actor)  # read first: an ended run gets no more events
    events = tuple(queries.list_events(run, after=after, limit=limit))
    last = events[-1].number if events else after
    return EventPage(
        events=events, last=last, ended=not found.is_active and last >= found.last_event
    )


_BY_USERS = (
    Action.RUN_REQUESTED,
    Action.APPROVED,
    Action.REJECTED,
    Action.PAUSE_REQUESTED,
    Action.RESUMED,
    Action.HEALTH_OVERRIDDEN,
    Action.SCHEDULE_OVERRIDDEN,
    Action.BLOCKERS_TERMINATED,
    Action.CANCEL_REQUESTED,
    Action.FORCE_REQUESTED,
    Action.RESOLVED,
)
_MOST_ACTIONS = 200


def activity(run: RunRecord, actor: Actor) -> list[EntryRecord]:
    """Return the entries about what users did with a run, in order."""
    with audited(actor, "show", run=run.id):
        authorise(actor, Scope.READ, database=run.database)
        wanted = queries.EntryFilter(run=run.id, actions=_BY_USERS)
        found = queries.list_entries(before=None, limit=_MOST_ACTIONS, wanted=wanted)
        return found[::-1]


_OF_STEPS = (EventKind.STEP_STARTED, EventKind.STEP_FINISHED, EventKind.ERROR)


def step_events(run: RunRecord, actor: Actor) -> list[EventRecord]:
    """Return the events about the start and the end of each step, and the errors."""
    with audited(actor, "show", run=run.id):
        authorise(actor, Scope.READ, database=run.database)
        most = 3 * len(run.steps) + _MOST_ACTIONS  # steps can be repeated
        return queries.list_events(run.id, after=0, limit=most, kinds=_OF_STEPS)


def wait(run: str, actor: Actor, *, seconds: float) -> RunRecord:
    """Return the run when it has ended, or after `seconds` at the latest."""
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while True:
        found = show(run, actor)
        now = time.monotonic()
        if not found.is_active or now >= deadline:
            return found
        refresh_at = min(now + _REFRESH_INTERVAL, deadline)
        while (left := refresh_at - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(pause * 1.2, _LONGEST_PAUSE)
            if queries.state_of(run) not in ACTIVE_STATES:
                break


def last_runs(databases: Collection[str], actor: Actor) -> dict[str, RunRecord]:
    """Return the newest run of each of these databases that the actor may read, by
    alias."""
    with audited(actor, "runs"):
        authorise(actor, Scope.READ)
        allowed = [alias for alias in databases if may(actor, Scope.READ, alias)]
        found = queries.last_runs(allowed)
        return {alias: refresh(run) for alias, run in found.items()}


def readable_databases(actor: Actor) -> list[str]:
    return [alias for alias in all_aliases() if may(actor, Scope.READ, alias)]


def status(actor: Actor) -> list[DatabaseStatus]:
    """Return the status of every database that the actor may read.

    Works when no table exists; a database that does not respond is reported as unreachable.
    """
    with audited(actor, "status"):
        authorise(actor, Scope.READ)
        aliases = readable_databases(actor)
        ledger = route_settings().ledger_database
        with open_recorders([*aliases, ledger]) as reading:
            # Before the recorders: the migrations of a run that has ended are recorded.
            problem, active, unresolved = _from_ledger(reading.problem_of(ledger))
            found = reading.read()
        return [
            _status(alias, found[alias], active.get(alias), unresolved.get(alias), problem)
            for alias in aliases
        ]


def _from_ledger(
    unreachable: RouteError | None,
) -> tuple[RouteError | None, dict[str, RunRecord], dict[str, str]]:
    active: dict[str, RunRecord] = {}
    unresolved: dict[str, str] = {}
    if unreachable is not None:  # a second attempt may wait without a limit
        return unreachable, active, unresolved
    try:
        for found in open_runs():
            run = refresh(found)
            if run.is_active:
                active[run.database] = run
            elif run.state is RunState.PARTIAL:
                unresolved[run.database] = run.id
    except DatabaseUnavailable as error:
        return error, {}, {}
    return None, active, unresolved


def _status(
    alias: str,
    recorded: Recorded,
    active: RunRecord | None,
    unresolved: str | None,
    ledger_problem: RouteError | None,
) -> DatabaseStatus:
    result = DatabaseStatus(
        database=alias,
        vendor=find_target(alias).vendor,
        reachable=False,
        active_run=active.id if active else None,
        active_state=active.state if active else "",
        active_waits_for=active.waiting_reason if active else "",
        active_until=active.waiting_until if active else "",
        unresolved_run=unresolved,
        problem=ledger_problem,
    )
    if isinstance(recorded, DatabaseUnavailable):
        return replace(result, problem=recorded)
    holds_ledger = alias == route_settings().ledger_database
    result = replace(
        result,
        reachable=True,
        applied=len(applied_for_fingerprint(recorded, alias)),
        ledger_installed=holds_ledger and (OWN_APP, "0001_initial") in recorded,
    )
    try:
        graph = graphs.read_graph(alias, recorded)
        phases = pending_phases(graph, alias)
        result = replace(
            result,
            pending=pending(graph, alias),
            required=tuple(label for label, found in phases.items() if found.is_required),
            later=_later(alias, phases),
            ahead=tuple(f"{app}.{name}" for app, name in graph.ahead),
            problem=graph.problem or ledger_problem,
        )
    except RouteError as error:
        return replace(result, problem=error)
    return result


def _later(alias: str, phases: dict[str, StepPhase]) -> tuple[Deferred, ...]:
    """Return the steps of the phase after the deploy, with their dates.

    The ledger is read only if there are any.
    """
    later = {label: phase for label, phase in phases.items() if not phase.is_required}
    if not later:
        return ()
    deferrals = deferrals_of(alias)
    return tuple(
        with_deferral(
            Deferred(
                app=label.partition(".")[0], name=label.partition(".")[2], phase=phase
            ),
            deferrals.get(label),
            build=sources.build(),
        )
        for label, phase in later.items()
    )
