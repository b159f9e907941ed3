"""Which SQL would each operation send?

Collected with Django's schema editor, on a connection of the route's own, without
executing anything. An operation that cannot be written as SQL stays opaque.

What would each statement of a plan do to the tables that are there?

Told by the vendor from the text of the statement and from the catalog as it is.

Which states of the project stand around each operation of a migration?
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

from django.db import DatabaseError, connections
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import Migration, RunPython, RunSQL
from django.db.migrations.operations.base import Operation as MigrationOperation
from django.db.migrations.state import ProjectState

from migration_route.conf.databases import using_private_connection
from migration_route.core.enums import Mode
from migration_route.core.values import Forecast, TableSize
from migration_route.planning import graph as graphs
from migration_route.planning.plan import Details, Operation, Step
from migration_route.planning.planner import describe_operation
from migration_route.vendors import vendor_of
from migration_route.vendors.base import Forecaster

logger = logging.getLogger("migration_route.planning")

BUDGET = 2.0
"""Seconds that a door spends on forecasts; steps beyond it keep `forecasts=None`."""


def with_forecasts(
    steps: tuple[Step, ...], alias: str, *, mode: Mode, budget: float
) -> tuple[tuple[Step, ...], tuple[TableSize, ...]]:
    """Return the steps with forecasts for as many as the budget (seconds) allows, in
    order, and the sizes of the tables that they touch.

    A plan that sends no statements, because it only records them, has none.
    """
    if mode is Mode.FAKE or not any(step.operations for step in steps):
        return steps, ()
    deadline = time.monotonic() + budget
    told: list[Step] = []
    sizes: tuple[TableSize, ...] = ()
    try:
        with using_private_connection(alias) as connection:
            forecaster = vendor_of(alias).forecaster(connection)
            for step in steps:
                if time.monotonic() > deadline:
                    break
                told.append(with_forecast(step, forecaster))
            sizes = forecaster.sizes(tables_of(told))
    except DatabaseError:
        # The plan is true without it; what was told so far is as well.
        logger.warning("No forecast for %s", alias, exc_info=True)
    return (*told, *steps[len(told) :]), sizes


def tables_of(steps: list[Step]) -> frozenset[str]:
    """Return the tables that the forecasts of these steps name."""
    return frozenset(
        table
        for step in steps
        for operation in step.operations
        for forecast in operation.forecasts or ()
        for table in (
            *(lock.table for lock in forecast.locks),
            *forecast.rewrites,
            *forecast.scans,
        )
    )


def with_forecast(step: Step, forecaster: Forecaster) -> Step:
    """Return one step with forecasts. Raises `django.db.DatabaseError`."""
    return replace(
        step,
        operations=tuple(_with_forecasts(each, forecaster) for each in step.operations),
    )


def _with_forecasts(operation: Operation, forecaster: Forecaster) -> Operation:
    if operation.opaque or operation.sql is None:
        forecaster.pass_by()
        return operation
    forecasts: tuple[Forecast, ...] = tuple(map(forecaster.foretell, operation.sql))
    return replace(operation, forecasts=forecasts)


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


AT_THE_END = "At the end of this migration"
"""What is said of the statements that the schema editor keeps for the end."""


def with_sql(
    steps: tuple[Step, ...],
    migrations: list[tuple[Migration, bool]],
    alias: str,
    details: Details,
) -> tuple[tuple[Step, ...], int | None]:
    """Return the steps with the SQL of as many as the details allow; and after how many
    to go on, None when there are no more."""
    after, deadline = details.after, time.monotonic() + details.budget
    graph = graphs.read_graph_of(alias, [migration for migration, _ in migrations])
    told = list(steps[:after])
    with using_private_connection(alias):
        moves_of_steps = plan_moves(graph, migrations, after=after, renders=True)
        for step, (_, moves) in zip(steps[after:], moves_of_steps, strict=True):
            if len(told) > after and time.monotonic() > deadline:
                return (*told, *steps[len(told) :]), len(told)
            told.append(collected(step, moves, alias))
    return tuple(told), None


def collected(step: Step, moves: Iterable[Move], alias: str) -> Step:
    """Return the step with the SQL of its operations, in the order of execution.

    Whatever it has to ask the catalog goes over `connections[alias]`.
    """
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
                with _without_parameters(editor, operation):
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
        sql = _deferred(editor, step.label)
        operations.append(Operation(description=AT_THE_END, opaque=False, sql=sql))
    return replace(step, operations=tuple(operations))


@contextmanager
def _without_parameters(
    editor: BaseDatabaseSchemaEditor, operation: MigrationOperation
) -> Iterator[None]:
    """Let the editor collect the statements of raw SQL with their placeholders: parameters
    are data, and data is not shown."""
    if not _runs_raw_sql(operation):
        yield
        return
    execute = editor.execute

    def collect(sql: Any, params: Any = ()) -> None:
        execute(sql, None if params else params)

    editor.execute = collect  # type: ignore[method-assign]
    try:
        yield
    finally:
        del editor.execute  # the method of the class again


def _runs_raw_sql(operation: MigrationOperation) -> bool:
    inner = getattr(operation, "database_operations", ())
    return isinstance(operation, RunSQL) or any(map(_runs_raw_sql, inner))


def _deferred(editor: BaseDatabaseSchemaEditor, label: str) -> tuple[str, ...] | None:
    """Return what the editor would send at the end of a step, as it writes that itself
    (`BaseDatabaseSchemaEditor.__exit__`): an editor of another package may defer what is
    no text, such as several statements in one."""
    start = len(editor.collected_sql)
    try:
        for statement in editor.deferred_sql:
            editor.execute(statement, None)
    except Exception:
        logger.info("No SQL for the end of %s", label, exc_info=True)
        return None
    return tuple(editor.collected_sql[start:])
