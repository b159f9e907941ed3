"""Findings about the database as it is, and about what the plan does not cover: other
databases, unmigrated model changes and steps that were not read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from django.apps import apps
from django.db import DatabaseError, connections
from django.db.migrations import Migration
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

from migration_route.conf.databases import all_aliases
from migration_route.core.enums import Direction, Severity
from migration_route.core.errors import RouteError
from migration_route.planning import graph as graphs
from migration_route.planning import sources
from migration_route.planning.changes.types import PlanChanges
from migration_route.planning.impact import ImpactBuilder, collect_impact
from migration_route.planning.plan import Finding, Plan
from migration_route.planning.planner import pending
from migration_route.vendors import vendor_of
from migration_route.vendors.base import InvalidIndex, SequenceBehind

logger = logging.getLogger("migration_route.planning")


def findings(plan: Plan, migrations: list[tuple[Migration, bool]]) -> tuple[Finding, ...]:
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
    finding = Finding(
        code="recorder_sequence_behind",
        severity=Severity.BLOCKING,
        message=f"The next id of django_migrations is {behind.next_id}, but ids up to "
        f"{behind.last_id} exist: a migration cannot be recorded.",
        hint=f"A dump restored without its sequences causes this. Run: {behind.remedy}",
    )
    records = plan.direction is Direction.FORWARDS
    return finding if records else replace(finding, severity=Severity.WARNING)


def _of_index(index: InvalidIndex, touched: ImpactBuilder) -> Finding:
    finding = Finding(
        code="invalid_index",
        severity=Severity.BLOCKING,
        message=f"The index {index.name} on {index.table} is invalid: its concurrent "
        "build was interrupted.",
        hint=f"Drop it: DROP INDEX CONCURRENTLY {index.quoted};",
    )
    if step := touched.rebuilt.get(index.name):
        hint = f'{step} rebuilds it: request the run with "rebuild_invalid_indexes".'
        return replace(finding, step=step, hint=hint)
    touches = index.name in touched.names or index.table in touched.tables
    if touches and index.name not in touched.dropped:
        return finding
    return replace(finding, severity=Severity.WARNING)


def project_findings(plan: Plan) -> Iterator[Finding]:
    """Report model changes without a migration, and pending migrations of other
    databases."""
    changed = _apps_with_changes(sources.layout())
    if changed:
        yield Finding(
            code="models_changed",
            severity=Severity.WARNING,
            message=f"Model changes without a migration exist in {', '.join(changed)}.",
            hint="Run 'manage.py makemigrations' and deploy the result.",
        )
    for alias in all_aliases():
        if alias != plan.database and (count := _pending(alias)):
            yield Finding(
                code="other_database",
                severity=Severity.INFO,
                message=f"The database {alias!r} has {count} pending migrations, "
                "which are not part of this plan.",
                hint=f"Request a plan for {alias!r} as well.",
            )


@lru_cache(maxsize=2)
@graphs.without_translations()
def _apps_with_changes(layout: object) -> tuple[str, ...]:
    """Return the apps whose models are ahead of their migrations. Computed once for each
    layout of the files: the models of a process do not change while it runs."""
    del layout
    loader = MigrationLoader(None, ignore_no_migrations=True)
    changes = MigrationAutodetector(
        loader.project_state(), ProjectState.from_apps(apps)
    ).changes(graph=loader.graph)
    return tuple(sorted(changes))


def _pending(alias: str) -> int:
    try:
        graph = graphs.read_graph(alias)
    except RouteError:
        return 0  # the status of that database reports the error
    return len(pending(graph, alias))


def unread_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Report the steps that were not read because the plan is too long."""
    if reading.unread:
        yield Finding(
            code="steps_not_read",
            severity=Severity.INFO,
            message=f"This plan is long: its last {len(reading.unread)} steps, from "
            f"{reading.unread[0]} on, were not checked for findings.",
            hint="Request a plan with a nearer target.",
        )
