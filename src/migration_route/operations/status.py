"""Show what is pending, everywhere."""

from __future__ import annotations

from dataclasses import replace

from migration_route.access.actor import Actor
from migration_route.access.permissions import authorise, may
from migration_route.conf import route_settings
from migration_route.errors import DatabaseUnavailable, RouteError
from migration_route.ledger.reading import standing_runs
from migration_route.ledger.records import RunRecord
from migration_route.operations.deferring import deferrals_of
from migration_route.operations.recording import on_record
from migration_route.operations.releasing import look_after
from migration_route.planning import graph as graphs
from migration_route.planning import sources
from migration_route.planning.phases.dividing import dated
from migration_route.planning.phases.values import Deferred, StepPhase
from migration_route.planning.planner import countable, pending, pending_phases
from migration_route.planning.standing import DatabaseStatus
from migration_route.targets import all_aliases, find_target
from migration_route.vocabulary import OWN_APP, RunState, Scope


def status(actor: Actor) -> list[DatabaseStatus]:
    """Return the status of every database that the actor may read.

    Works with no table at all; a database that does not answer is one that does not.
    """
    with on_record(actor, "status"):
        authorise(actor, Scope.READ)
        ledger_problem, active, unresolved = _from_ledger()
        return [
            _status(alias, active.get(alias), unresolved.get(alias), ledger_problem)
            for alias in all_aliases()
            if may(actor, Scope.READ, alias)
        ]


def _from_ledger() -> tuple[RouteError | None, dict[str, RunRecord], dict[str, str]]:
    active: dict[str, RunRecord] = {}
    unresolved: dict[str, str] = {}
    try:
        for found in standing_runs():
            run = look_after(found)
            if run.is_active:
                active[run.database] = run
            elif run.state is RunState.PARTIAL:
                unresolved[run.database] = run.id
    except DatabaseUnavailable as error:
        return error, {}, {}
    return None, active, unresolved


def _status(
    alias: str,
    active: RunRecord | None,
    unresolved: str | None,
    ledger_problem: RouteError | None,
) -> DatabaseStatus:
    standing = DatabaseStatus(
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
    try:
        recorded = graphs.read_recorder(alias)
    except DatabaseUnavailable as error:
        return replace(standing, problem=error)
    holds_ledger = alias == route_settings().ledger_database
    standing = replace(
        standing,
        reachable=True,
        applied=len(set(countable(recorded, alias))),
        ledger_installed=holds_ledger and (OWN_APP, "0001_initial") in recorded,
    )
    try:
        graph = graphs.read_graph(alias, recorded)
        phases = pending_phases(graph, alias)
        standing = replace(
            standing,
            pending=pending(graph, alias),
            required=tuple(label for label, found in phases.items() if found.is_required),
            later=_later(alias, phases),
            ahead=tuple(f"{app}.{name}" for app, name in graph.ahead),
            problem=graph.problem or ledger_problem,
        )
    except RouteError as error:
        return replace(standing, problem=error)
    return standing


def _later(alias: str, phases: dict[str, StepPhase]) -> tuple[Deferred, ...]:
    """Return what comes after the deploy, dated; the ledger is asked only where there is
    something."""
    found = {label: phase for label, phase in phases.items() if not phase.is_required}
    if not found:
        return ()
    deferrals = deferrals_of(alias)
    return tuple(
        dated(
            Deferred(
                app=label.partition(".")[0], name=label.partition(".")[2], phase=phase
            ),
            deferrals.get(label),
            build=sources.build(),
        )
        for label, phase in found.items()
    )
