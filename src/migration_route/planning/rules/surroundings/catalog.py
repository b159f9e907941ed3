"""Findings about the database as it is: what would make a step of this plan fail."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from django.db import DatabaseError, connections
from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from migration_route.planning import graph as graphs
from migration_route.planning.plan import Finding, Plan
from migration_route.planning.states import plan_moves
from migration_route.vendors import vendor_of
from migration_route.vendors.troubles import InvalidIndex, SequenceBehind
from migration_route.vocabulary import Direction, Mode, Severity

logger = logging.getLogger("migration_route.planning")

_MAKES_INDEX = re.compile(
    r"\s*create\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?\"?(?P<name>\w+)",
    re.IGNORECASE,
)


def findings(plan: Plan, migrations: list[tuple[Migration, bool]]) -> tuple[Finding, ...]:
    """Look into the catalog, and hold what is wrong there against the plan."""
    try:
        troubles = vendor_of(plan.database).troubles(connections[plan.database])
    except DatabaseError:
        logger.warning("The catalog of %s cannot be read.", plan.database, exc_info=True)
        return ()
    found: list[Finding] = []
    if troubles.invalid_indexes:
        touched = _touched_by(plan, migrations)
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


def _of_index(index: InvalidIndex, touched: _Touched) -> Finding:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Touched:
    """What the steps of a plan have to do with, as far as it can be known."""

    tables: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)  # of indexes, or words of raw SQL
    dropped: set[str] = field(default_factory=set)  # indexes that a step takes away
    rebuilt: dict[str, str] = field(default_factory=dict)  # index to the step, concurrently


def _touched_by(plan: Plan, migrations: list[tuple[Migration, bool]]) -> _Touched:
    touched = _Touched()
    if plan.mode is Mode.FAKE or not migrations:
        return touched
    graph = graphs.read_graph_of(plan.database, [migration for migration, _ in migrations])
    for migration, moves in plan_moves(graph, migrations):
        label = f"{migration.app_label}.{migration.name}"
        for operation, app, before, after, backwards in moves:
            for part in getattr(operation, "database_operations", [operation]):
                for state in (before, after):
                    touched.tables.update(_tables(part, app, state))
                _see(part, label, touched, backwards=backwards)
    return touched


def _tables(operation: Operation, app: str, state: ProjectState) -> Iterator[str]:
    """Name the tables of the models that an operation names."""
    for attribute in ("model_name", "name", "old_name", "new_name"):
        name = getattr(operation, attribute, None)
        model = state.models.get((app, name.lower())) if isinstance(name, str) else None
        if model is not None:
            yield model.options.get("db_table") or f"{app}_{model.name_lower}"


def _see(operation: Operation, label: str, touched: _Touched, *, backwards: bool) -> None:
    kind = type(operation).__name__
    index = getattr(getattr(operation, "index", None), "name", None)
    if index is None and kind.startswith("RemoveIndex"):
        index = operation.name  # type: ignore[attr-defined]
    if index:
        touched.names.add(index)
        makes = kind.startswith("AddIndex") is not backwards
        if not makes:
            touched.dropped.add(index)
        elif kind.endswith("Concurrently") and index not in touched.dropped:
            touched.rebuilt[index] = label
    for raw in _raw_sql(operation, backwards=backwards):
        words = re.findall(r"\w+", raw)
        touched.names.update(words)
        touched.tables.update(words)
        if made := _MAKES_INDEX.match(raw):
            touched.rebuilt[made["name"]] = label


def _raw_sql(operation: Operation, *, backwards: bool) -> Iterator[str]:
    """Go through the statements that an operation holds as text: one, or a list of them,
    each alone or with its parameters."""
    raw = getattr(operation, "reverse_sql" if backwards else "sql", None)
    for statement in [raw] if isinstance(raw, str) else raw or ():
        yield statement if isinstance(statement, str) else statement[0]
