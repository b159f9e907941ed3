"""Which SQL would each operation send?

Collected with Django's schema editor, on a connection of the route's own, without
executing anything. An operation that cannot be written as SQL stays opaque.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from django.db import connections
from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation as MigrationOperation
from django.db.migrations.state import ProjectState

from migration_route.connecting import own_connection
from migration_route.planning import graph as graphs
from migration_route.planning.plan import Operation, Step
from migration_route.planning.planner import describe_operation

logger = logging.getLogger("migration_route.planning")

BUDGET = 2.0
"""Seconds that a door spends on SQL; steps beyond it keep `sql=None`."""

Move = tuple[MigrationOperation, str, ProjectState, ProjectState, bool]
"""An operation, its app, the states before and after it, and whether it goes backwards."""

_DEFERRED = "At the end of this migration"


def with_sql(
    steps: tuple[Step, ...],
    migrations: list[tuple[Migration, bool]],
    alias: str,
    *,
    budget: float,
) -> tuple[Step, ...]:
    """Return the steps with the SQL of as many as the budget (seconds) allows, in order."""
    deadline = time.monotonic() + budget
    graph = graphs.read_graph_of(alias, [migration for migration, _ in migrations])
    told: list[Step] = []
    with own_connection(alias):
        for step, (_, moves) in zip(steps, moves_of(graph, migrations), strict=True):
            if time.monotonic() > deadline:
                break
            told.append(_collected(step, moves, alias))
    return (*told, *steps[len(told) :])


def moves_of(
    graph: graphs.Graph, migrations: list[tuple[Migration, bool]]
) -> Iterator[tuple[Migration, list[Move]]]:
    """Go through the operations of a plan in their order, with the states around them."""
    state = _state_before(graph, migrations)
    for migration, backwards in migrations:
        if backwards:
            state = _state_before(graph, [(migration, False)])
            yield migration, _backwards(migration, state)
        else:
            yield migration, _forwards(migration, state)


def _state_before(
    graph: graphs.Graph, migrations: list[tuple[Migration, bool]]
) -> ProjectState:
    """Return the project's state before the first of the migrations."""
    loader = graph.loader
    if not migrations:
        return loader.project_state()
    first, backwards = migrations[0]
    if backwards or len(migrations) == 1:
        return loader.project_state((first.app_label, first.name), at_end=False)
    state = ProjectState(real_apps=loader.unmigrated_apps)
    wanted = {migration for migration, _ in migrations}
    for key in _in_order(graph):
        migration = loader.graph.nodes[key]
        if migration not in wanted and key in loader.applied_migrations:
            migration.mutate_state(state, preserve=False)
    return state


def _in_order(graph: graphs.Graph) -> Iterable[tuple[str, str]]:
    """Go through the whole graph, each node behind those that it depends on."""
    seen: set[tuple[str, str]] = set()
    for leaf in graph.loader.graph.leaf_nodes():
        for key in graph.loader.graph.forwards_plan(leaf):
            if key not in seen:
                seen.add(key)
                yield key


def _forwards(migration: Migration, state: ProjectState) -> list[Move]:
    """Return each operation with the states around it; advances `state`."""
    moves: list[Move] = []
    for operation in migration.operations:
        before = state.clone()
        operation.state_forwards(migration.app_label, state)
        moves.append((operation, migration.app_label, before, state.clone(), False))
    return moves


def _backwards(migration: Migration, state: ProjectState) -> list[Move]:
    return [
        (operation, app, after, before, True)
        for operation, app, before, after, _ in reversed(_forwards(migration, state))
    ]


def _collected(step: Step, moves: list[Move], alias: str) -> Step:
    """Return the step with the SQL of its operations, in the order of execution."""
    editor = connections[alias].schema_editor(collect_sql=True, atomic=False)
    editor.deferred_sql = []  # what entering the editor does, without its transaction
    operations = []
    for operation, app, before, after, backwards in moves:
        start = len(editor.collected_sql)
        opaque = not operation.reduces_to_sql
        sql: tuple[str, ...] | None = ()
        if not opaque:
            run = operation.database_backwards if backwards else operation.database_forwards
            try:
                run(app, editor, before, after)
                sql = tuple(map(str, editor.collected_sql[start:]))
            except Exception:
                # Some operations ask the catalog about what an earlier step would have
                # made. A plan without this SQL is still true.
                logger.info("No SQL for %s of %s", operation, step.label, exc_info=True)
                sql = None
        operations.append(
            Operation(description=describe_operation(operation), opaque=opaque, sql=sql)
        )
    if editor.deferred_sql:
        deferred = tuple(f"{statement};" for statement in map(str, editor.deferred_sql))
        operations.append(Operation(description=_DEFERRED, opaque=False, sql=deferred))
    return replace(step, operations=tuple(operations))
