"""Which states of the project stand around each operation of a migration?"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import pairwise

from django.db.migrations import Migration, RunPython, RunSQL
from django.db.migrations.operations.base import Operation as MigrationOperation
from django.db.migrations.state import ProjectState

from migration_route.planning import graph as graphs

logger = logging.getLogger("migration_route.planning")

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
    graph: graphs.Graph,
    migrations: list[tuple[Migration, bool]],
    *,
    after: int = 0,
    renders: bool = False,
) -> Iterator[tuple[Migration, Iterable[Move]]]:
    """Go through the migrations of a plan in their order, from the one behind so many,
    each with its operations and the states around them: see `forward_moves`."""
    state = state_before(graph, migrations)
    for position, (migration, backwards) in enumerate(migrations):
        if position < after:
            if not backwards:
                migration.mutate_state(state, preserve=False)
        elif backwards:
            state = state_before(graph, [(migration, False)])
            yield migration, backward_moves(migration, state, renders=renders)
        else:
            moves = forward_moves(migration, state, renders=renders)
            yield migration, moves
            deque(moves, maxlen=0)  # what the caller has not read advances the state, too


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
    moves = list(_between(migration, _states(migration, state)))
    return [_undone(move) for move in reversed(moves)] if backwards else moves


def _in_order(graph: graphs.Graph) -> Iterable[tuple[str, str]]:
    """Go through the whole graph, each node behind those that it depends on."""
    seen: set[tuple[str, str]] = set()
    for leaf in graph.loader.graph.leaf_nodes():
        for key in graph.loader.graph.forwards_plan(leaf):
            if key not in seen:
                seen.add(key)
                yield key


def forward_moves(
    migration: Migration, state: ProjectState, *, renders: bool = False
) -> Iterator[Move]:
    """Go through the operations with the states around each; advances `state`.

    The state behind an operation is `state` itself: read each move before the next one is
    taken. With `renders` the models are rendered once and reloaded as they change, as
    `Migration.apply` does it; a state that is rendered for each operation costs the number
    of models times that of operations.
    """
    if renders:
        _render(migration, state)
    for operation in migration.operations:
        before = state.clone()
        _advance(operation, migration.app_label, state, before)
        yield operation, migration.app_label, before, state, False


def backward_moves(
    migration: Migration, state: ProjectState, *, renders: bool = False
) -> list[Move]:
    """Return each operation as it is undone, the last one first; advances `state`."""
    if renders:
        _render(migration, state)
    moves = _between(migration, _states(migration, state))
    return [_undone(move) for move in reversed(list(moves))]


def _states(migration: Migration, state: ProjectState) -> list[ProjectState]:
    """Return the state before each operation and the one behind the last, each a copy;
    advances `state`."""
    found = [state.clone()]
    for operation in migration.operations:
        _advance(operation, migration.app_label, state, found[-1])
        found.append(state.clone())
    return found


def _between(migration: Migration, states: list[ProjectState]) -> Iterator[Move]:
    for operation, (before, after) in zip(
        migration.operations, pairwise(states), strict=True
    ):
        yield operation, migration.app_label, before, after, False


def _undone(move: Move) -> Move:
    operation, app, before, after, _ = move
    return operation, app, after, before, True


def _render(migration: Migration, state: ProjectState) -> None:
    """Render the models of a state where an operation makes its SQL from them."""
    if all(isinstance(each, RunSQL | RunPython) for each in migration.operations):
        return
    try:
        state.apps  # noqa: B018 - a cached property, which clones take along
    except Exception:  # a model of the project that cannot be rendered: told by its SQL
        logger.info("The models before %s cannot be rendered", migration, exc_info=True)


def _advance(
    operation: MigrationOperation, app: str, state: ProjectState, before: ProjectState
) -> None:
    """Let an operation change the state; without rendered models where they prevent it."""
    try:
        operation.state_forwards(app, state)
    except Exception:
        if "apps" not in state.__dict__:
            raise
        logger.info("The models behind %s cannot be rendered", operation, exc_info=True)
        del state.apps
        state.models = before.clone().models
        state._relations = None  # type: ignore[attr-defined] # those of the models before
        operation.state_forwards(app, state)
