"""Findings about the database as it is, and about what the plan does not cover: other
databases, unmigrated model changes and steps that were not read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from django.apps import apps
from django.db import DatabaseError, connections
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from migration_route.conf.databases import all_aliases
from migration_route.core.enums import Direction
from migration_route.core.errors import DatabaseUnavailable, RouteError
from migration_route.planning import graph as graphs
from migration_route.planning import sources
from migration_route.planning.changes.types import PlanChanges
from migration_route.planning.findings.kinds import make_finding
from migration_route.planning.impact import ImpactBuilder, collect_impact
from migration_route.planning.phases import MigrationPlan, in_dependency_order
from migration_route.planning.plan import Finding, Plan
from migration_route.planning.planner import pending
from migration_route.planning.recorders import Recorded, read_recorders
from migration_route.planning.states import advance_past, empty_state
from migration_route.vendors import vendor_of
from migration_route.vendors.base import InvalidIndex, SequenceBehind

logger = logging.getLogger("migration_route.planning")


def findings(plan: Plan, migrations: MigrationPlan) -> tuple[Finding, ...]:
    """Read the catalog, and report what would make a step of the plan fail."""
    try:
        troubles = vendor_of(plan.database).troubles(connections[plan.database])
    except DatabaseError:
        logger.warning("Cannot read the catalog of %s.", plan.database, exc_info=True)
        return ()
    found: list[Finding] = []
    if troubles.invalid_indexes:
        touched = collect_impact(plan, migrations)
        found += (_of_index(index, touched) for index in troubles.invalid_indexes)
    if troubles.sequence_behind is not None:
        found.append(_of_sequence(troubles.sequence_behind, plan))
    return tuple(found)


def _of_sequence(behind: SequenceBehind, plan: Plan) -> Finding:
    return make_finding(
        "recorder_sequence_behind",
        is_mild=plan.direction is not Direction.FORWARDS,
        next_id=behind.next_id,
        last_id=behind.last_id,
        remedy=behind.remedy,
    )


def _of_index(index: InvalidIndex, touched: ImpactBuilder) -> Finding:
    step = touched.rebuilt.get(index.name)
    touches = index.name in touched.names or index.table in touched.tables
    is_in_the_way = step is not None or (touches and index.name not in touched.dropped)
    found = make_finding(
        "invalid_index",
        step=step,
        is_mild=not is_in_the_way,
        index=index.name,
        table=index.table,
        quoted=index.quoted,
    )
    if step is None:
        return found
    hint = f'{step} rebuilds it: request the run with "rebuild_invalid_indexes".'
    return replace(found, hint=hint)


def project_findings(plan: Plan) -> Iterator[Finding]:
    """Report model changes without a migration, and pending migrations of other
    databases."""
    changed = _apps_with_changes(sources.layout())
    if changed:
        yield make_finding("models_changed", apps=", ".join(changed))
    others = [alias for alias in all_aliases() if alias != plan.database]
    for alias, recorded in read_recorders(others).items():
        if count := _pending(alias, recorded):
            yield make_finding("other_database", database=alias, count=count)


@lru_cache(maxsize=2)
@graphs.without_translations()
def _apps_with_changes(layout: object) -> tuple[str, ...]:
    """Return the apps whose models are ahead of their migrations. Computed once for each
    layout of the files: the models of a process do not change while it runs."""
    del layout
    loader = MigrationLoader(None, ignore_no_migrations=True)
    state = empty_state(loader.unmigrated_apps)
    for key in in_dependency_order(loader):
        advance_past(loader.graph.nodes[key], state)
    changes = MigrationAutodetector(state, ProjectState.from_apps(apps)).changes(
        graph=loader.graph
    )
    return tuple(sorted(changes))


def _pending(alias: str, recorded: Recorded) -> int:
    if isinstance(recorded, DatabaseUnavailable):
        return 0  # the status of that database reports the error
    try:
        graph = graphs.read_graph(alias, recorded)
    except RouteError:
        return 0
    return len(pending(graph, alias))


def unread_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report the steps that were not read because the plan is too long."""
    if reading.unread:
        count, first = len(reading.unread), reading.unread[0]
        yield make_finding("steps_not_read", count=count, first=first)
