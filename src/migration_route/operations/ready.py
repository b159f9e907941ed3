"""May traffic come? Public, cheap, and silent about everything else."""

from __future__ import annotations

from migration_route.conf import route_settings
from migration_route.errors import RouteError
from migration_route.planning import graph as graphs
from migration_route.planning.planner import pending_phases
from migration_route.targets import all_aliases


def ready() -> bool:
    """Tell whether nothing that this code requires is pending on any database: what
    comes after the deploy is not required.

    Only the recorder of each database is read; nothing is written.
    """
    counted = route_settings().ready_databases
    aliases = all_aliases() if counted is None else counted
    return all(_is_ready(alias) for alias in aliases)


def _is_ready(alias: str) -> bool:
    try:
        graph = graphs.read_graph(alias)
    except RouteError:
        return False
    if any(phase.is_required for phase in pending_phases(graph, alias).values()):
        return False
    return route_settings().ready_when_ahead or not graph.ahead
