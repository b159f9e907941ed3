"""Which findings are about the database as it is, and about what the plan leaves out?

Findings about the database as it is: what would make a step of this plan fail.

Findings about what the plan leaves out.

Findings about steps that nobody has looked at.
"""

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
from migration_route.planning.impact import ImpactBuilder, touching_of
from migration_route.planning.plan import Finding, Plan
from migration_route.planning.planner import pending
from migration_route.vendors import vendor_of
from migration_route.vendors.base import InvalidIndex, SequenceBehind

logger = logging.getLogger("migration_route.planning")


def findings(plan: Plan, migrations: list[tuple[Migration, bool]]) -> tuple[Finding, ...]:
    """Look into the catalog, and hold what is wrong there against the plan."""
    try:
        troubles = vendor_of(plan.database).troubles(connections[plan.database])
    except DatabaseError:
        logger.warning("The catalog of %s cannot be read.", plan.database, exc_info=True)
        return ()
    found: list[Finding] = []
    if troubles.invalid_indexes:
        touched = touching_of(plan, migrations)
        found += (_of_index(index, touched) for index in troubles.invalid_indexes)
    if troubles.sequence_behind is not None:
        found.append(_of_sequence(troubles.sequence_behind, plan))
    return tuple(found)


def _of_sequence(behind: SequenceBehind, plan: Plan) -> Finding:
    finding = Finding(
        code="recorder_sequence_behind",
        severity=Severity.BLOCKING,
        message=f"The next id of django_migrations would be {behind.next_id}, but there "
        f"are ids up to {behind.last_id}: a migration cannot be recorded.",
        hint=f"As after a dump restored without its sequences: {behind.remedy}",
    )
    records = plan.direction is Direction.FORWARDS
    return finding if records else replace(finding, severity=Severity.WARNING)


def _of_index(index: InvalidIndex, touched: ImpactBuilder) -> Finding:
    finding = Finding(
        code="invalid_index",
        severity=Severity.BLOCKING,
        message=f"The index {index.name} on {index.table} is invalid: a concurrent build "
        "of it was interrupted.",
        hint=f"Drop it: DROP INDEX CONCURRENTLY {index.quoted};",
    )
    if step := touched.rebuilt.get(index.name):
        hint = f'{step} makes it anew: ask for the run with "rebuild_invalid_indexes".'
        return replace(finding, step=step, hint=hint)
    touches = index.name in touched.names or index.table in touched.tables
    if touches and index.name not in touched.dropped:
        return finding
    return replace(finding, severity=Severity.WARNING)


def project_findings(plan: Plan) -> Iterator[Finding]:
    """Name what no migration covers, and databases with work of their own."""
    changed = _apps_with_changes(sources.layout())
    if changed:
        yield Finding(
            code="models_changed",
            severity=Severity.WARNING,
            message=f"Models of {', '.join(changed)} have changes that no migration holds.",
            hint="Run 'manage.py makemigrations' and deploy the result.",
        )
    for alias in all_aliases():
        if alias != plan.database and (count := _pending(alias)):
            yield Finding(
                code="other_database",
                severity=Severity.INFO,
                message=f"The database {alias!r} has {count} pending migrations, "
                "which are not part of this plan.",
                hint=f"Ask for the plan of {alias!r} as well.",
            )


@lru_cache(maxsize=2)
@graphs.without_translations()
def _apps_with_changes(layout: object) -> tuple[str, ...]:
    """Return the apps whose models are ahead of their migrations, once for each layout
    of the files: the models of a process do not change while it lives."""
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
        return 0  # status says what is wrong with that database
    return len(pending(graph, alias))


def unread_findings(reading: PlanChanges) -> Iterator[Finding]:
    """Say from where on the plan was too long to be read."""
    if reading.unread:
        yield Finding(
            code="steps_not_read",
            severity=Severity.INFO,
            message=f"This plan is long, so its last {len(reading.unread)} steps, from "
            f"{reading.unread[0]} on, were not searched for findings.",
            hint="Ask for a plan with a nearer target.",
        )
