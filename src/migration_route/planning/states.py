"""Which states of the project stand around each operation of a migration?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation as MigrationOperation
from django.db.migrations.state import ProjectState

from migration_route.planning import graph as graphs

Move = tuple[MigrationOperation, str, ProjectState, ProjectState, bool]
"""An operation, its app, the states from which and to which it goes, and whether it
goes backwards."""


def state_before(
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


def plan_moves(
    graph: graphs.Graph, migrations: list[tuple[Migration, bool]]
) -> Iterator[tuple[Migration, list[Move]]]:
    """Go through the migrations of a plan in their order, each with its operations and
    the states around them."""
    state = state_before(graph, migrations)
    for migration, backwards in migrations:
        if backwards:
            state = state_before(graph, [(migration, False)])
            yield migration, backward_moves(migration, state)
        else:
            yield migration, forward_moves(migration, state)


def moves_of(
    graph: graphs.Graph,
    migration: Migration,
    backwards: bool,  # noqa: FBT001 - Django's pair
) -> list[Move]:
    """Return the operations of one migration in the order of their execution, between
    the states that Django's executor gives them: with all else that is applied."""
    loader = graph.loader
    state = ProjectState(real_apps=loader.unmigrated_apps)
    for key in _in_order(graph):
        other = loader.graph.nodes[key]
        if other == migration:  # Django compares them by app and name
            if backwards:
                break  # what came after it is gone already
        elif key in loader.applied_migrations:
            other.mutate_state(state, preserve=False)
    return (
        backward_moves(migration, state) if backwards else forward_moves(migration, state)
    )


def _in_order(graph: graphs.Graph) -> Iterable[tuple[str, str]]:
    """Go through the whole graph, each node behind those that it depends on."""
    seen: set[tuple[str, str]] = set()
    for leaf in graph.loader.graph.leaf_nodes():
        for key in graph.loader.graph.forwards_plan(leaf):
            if key not in seen:
                seen.add(key)
                yield key


def forward_moves(migration: Migration, state: ProjectState) -> list[Move]:
    """Return each operation with the states around it; advances `state`."""
    moves: list[Move] = []
    for operation in migration.operations:
        before = state.clone()
        operation.state_forwards(migration.app_label, state)
        moves.append((operation, migration.app_label, before, state.clone(), False))
    return moves


def backward_moves(migration: Migration, state: ProjectState) -> list[Move]:
    """Return each operation as it is undone, the last one first; advances `state`."""
    return [
        (operation, app, after, before, True)
        for operation, app, before, after, _ in reversed(forward_moves(migration, state))
    ]
