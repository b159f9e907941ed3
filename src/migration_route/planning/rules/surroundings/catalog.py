"""Findings about the database as it is: what would make a step of this plan fail."""

from __future__ import annotations

import logging
from dataclasses import replace

from django.db import DatabaseError, connections
from django.db.migrations import Migration

from migration_route.planning.plan import Finding, Plan
from migration_route.planning.touching import Touching, touching_of
from migration_route.vendors import vendor_of
from migration_route.vendors.troubles import InvalidIndex, SequenceBehind
from migration_route.vocabulary import Direction, Severity

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


def _of_index(index: InvalidIndex, touched: Touching) -> Finding:
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
