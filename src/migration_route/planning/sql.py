"""Collects the SQL of each operation, and the forecasts of its statements.

Django's schema editor collects the SQL on a private connection, without executing anything.
An operation that cannot be written as SQL stays opaque. The vendor computes forecasts from
the text of each statement and from the catalog as it is. The module also provides the
project states around each operation of a migration.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import takewhile
from typing import Any

from django.db import DatabaseError, connections
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import Migration, RunSQL
from django.db.migrations.operations.base import Operation as MigrationOperation
from django.db.migrations.state import ProjectState

from migration_route.conf.databases import using_private_connection
from migration_route.core.enums import Mode
from migration_route.core.values import Forecast, TableSize
from migration_route.planning import graph as graphs
from migration_route.planning.phases import MigrationPlan, in_dependency_order
from migration_route.planning.plan import Details, Operation, Step
from migration_route.planning.planner import describe_operation, is_opaque
from migration_route.planning.states import (
    advance,
    advance_past,
    ready_for,
    state_after,
)
from migration_route.vendors import usable_wrappers, vendor_of
from migration_route.vendors.base_forecast import Forecaster
from migration_route.vendors.sql_statements import (
    TRANSACTION_WORDS,
    first_word,
    only_reads,
)

logger = logging.getLogger("migration_route.planning")

BUDGET = 2.0
"""Seconds that an interface spends on forecasts; later steps keep `forecasts=None`."""


def with_forecasts(
    steps: tuple[Step, ...], alias: str, *, mode: Mode, budget: float
) -> tuple[tuple[Step, ...], tuple[TableSize, ...]]:
    """Return the steps, with forecasts for as many as the budget (seconds) allows, in
    order, and the sizes of the tables that they touch.

    A plan that only records its steps sends no statements, and gets no forecasts.
    """
    if mode is Mode.FAKE or not any(step.operations for step in steps):
        return steps, ()
    deadline = time.monotonic() + budget
    done: list[Step] = []
    sizes: tuple[TableSize, ...] = ()
    try:
        with using_private_connection(alias) as connection:
            forecaster = vendor_of(alias).forecaster(connection)
            for step in steps:
                if time.monotonic() > deadline:
                    break
                done.append(with_forecast(step, forecaster))
            sizes = forecaster.sizes(tables_of(done))
    except DatabaseError:
        # The plan is valid without forecasts, and with those collected so far.
        logger.warning("No forecast for %s", alias, exc_info=True)
    return (*done, *steps[len(done) :]), sizes


def tables_of(steps: list[Step]) -> frozenset[str]:
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
        forecaster.note_unknown_statements()
        return operation
    forecasts: tuple[Forecast, ...] = tuple(
        map(forecaster.forecast_statement, operation.sql)
    )
    return replace(operation, forecasts=forecasts)


Move = tuple[MigrationOperation, str, ProjectState, ProjectState, bool]
"""An operation, its app, the states before and after it in its direction, and whether it
goes backwards."""


def state_before(graph: graphs.Graph, migrations: MigrationPlan) -> ProjectState:
    """Return the project state before the first of the migrations, as Django's executor
    computes it: forwards after all applied ones, backwards after those that come before the
    first one."""
    applied: Iterable[Migration] = _applied(graph, migrations)
    if migrations and migrations[0][1]:
        first = migrations[0][0]
        applied = takewhile(lambda migration: migration != first, applied)
    else:
        wanted = {migration for migration, _ in migrations}
        applied = (migration for migration in applied if migration not in wanted)
    return state_after(applied, graph.loader.unmigrated_apps)


def plan_moves(
    graph: graphs.Graph, migrations: MigrationPlan, *, after: int = 0
) -> Iterator[tuple[Migration, Iterable[Move]]]:
    """Yield the migrations of a plan in their order, without the first `after` ones, each
    with its operations and the states around them: see `forward_moves`."""
    if migrations and migrations[0][1]:
        reverted = [migration for migration, _ in migrations[after:]]
        states = _states_before_each(graph, reverted)
        for migration in reverted:
            yield migration, backward_moves(migration, states[migration])
        return
    state = state_before(graph, migrations)
    for position, (migration, _) in enumerate(migrations):
        moves = forward_moves(migration, state)
        if position >= after:
            yield migration, moves
        deque(moves, maxlen=0)  # moves that are not read advance the state, too


def _states_before_each(
    graph: graphs.Graph, reverted: list[Migration]
) -> dict[Migration, ProjectState]:
    """Return the state before each migration that a plan reverts, in one pass, as Django's
    executor computes them."""
    wanted = set(reverted)
    order = list(_applied(graph, [(migration, True) for migration in reverted]))
    earlier = list(takewhile(lambda migration: migration not in wanted, order))
    state = state_after(earlier, graph.loader.unmigrated_apps)
    found: dict[Migration, ProjectState] = {}
    for migration in order[len(earlier) :]:
        if migration in wanted:
            found[migration] = state.clone()
        if len(found) == len(wanted):
            break
        advance_past(migration, state)
    return found


def _applied(graph: graphs.Graph, migrations: MigrationPlan) -> Iterator[Migration]:
    """Yield the applied migrations in dependency order, those that a plan reverts
    included."""
    loader = graph.loader
    reverted = {migration for migration, backwards in migrations if backwards}
    for key in in_dependency_order(loader):
        migration = loader.graph.nodes[key]
        if key in loader.applied_migrations or migration in reverted:
            yield migration


def moves_of(
    graph: graphs.Graph,
    migration: Migration,
    backwards: bool,  # noqa: FBT001 - Django's pair
) -> list[Move]:
    """Return the operations of one migration in the order of their execution, with the
    states that Django's executor passes to them: all other applied migrations included."""
    state = state_before(graph, [(migration, backwards)])
    return (backward_moves if backwards else _copied_moves)(migration, state)


def forward_moves(migration: Migration, state: ProjectState) -> Iterator[Move]:
    """Yield the operations with the states around each; advances `state`.

    The state after an operation is `state` itself: use each move before the next one is
    taken.
    """
    for operation in migration.operations:
        before = state.clone()
        advance(operation, migration.app_label, state)
        yield operation, migration.app_label, before, state, False


def backward_moves(migration: Migration, state: ProjectState) -> list[Move]:
    """Return each operation as it is reversed, the last one first; advances `state`."""
    return [
        (operation, app, after, before, True)
        for operation, app, before, after, _ in reversed(_copied_moves(migration, state))
    ]


def _copied_moves(migration: Migration, state: ProjectState) -> list[Move]:
    """Return the operations with copies of the states around each; advances `state`."""
    return [
        (operation, app, before, after.clone(), False)
        for operation, app, before, after, _ in forward_moves(migration, state)
    ]


DEFERRED_SQL_DESCRIPTION = "At the end of this migration"
"""The description of the statements that the schema editor defers to the end."""


def with_sql(
    steps: tuple[Step, ...],
    migrations: MigrationPlan,
    alias: str,
    details: Details,
) -> tuple[tuple[Step, ...], int | None]:
    """Return the steps, with the SQL of as many as the details allow; and the `after` of
    the next request, None when all steps have their SQL."""
    after, deadline = details.after, time.monotonic() + details.budget
    graph = graphs.read_graph_of(alias, [migration for migration, _ in migrations])
    done = list(steps[:after])
    with using_private_connection(alias):
        moves_of_steps = plan_moves(graph, migrations, after=after)
        for step, (_, moves) in zip(steps[after:], moves_of_steps, strict=True):
            if len(done) > after and time.monotonic() > deadline:
                return (*done, *steps[len(done) :]), len(done)
            done.append(with_collected_sql(step, moves, alias))
    return tuple(done), None


def with_collected_sql(step: Step, moves: Iterable[Move], alias: str) -> Step:
    """Return the step with the SQL of its operations, in the order of execution.

    Catalog queries of the operations run on `connections[alias]`. What an operation sends
    on this connection itself is collected as well, and not executed.
    """
    editor = connections[alias].schema_editor(collect_sql=True, atomic=False)
    editor.deferred_sql = []  # as entering the editor does, without its transaction
    with _executing_only_reads(alias, editor.collected_sql.append):
        operations = list(_collected(editor, step, moves))
    if editor.deferred_sql:
        sql = _deferred(editor, step.label)
        operations.append(
            Operation(description=DEFERRED_SQL_DESCRIPTION, opaque=False, sql=sql)
        )
    return replace(step, operations=tuple(operations))


def _collected(
    editor: BaseDatabaseSchemaEditor, step: Step, moves: Iterable[Move]
) -> Iterator[Operation]:
    for operation, app, before, after, backwards in moves:
        start = len(editor.collected_sql)
        opaque = is_opaque(operation)
        sql: tuple[str, ...] | None = ()
        if not opaque:
            run = operation.database_backwards if backwards else operation.database_forwards
            try:
                with (
                    ready_for(operation, before, after),
                    _without_parameters(editor, operation),
                ):
                    run(app, editor, before, after)
                sql = tuple(map(str, editor.collected_sql[start:]))
            except Exception:
                # Some operations query the catalog for what an earlier step would have
                # created. A plan without this SQL is still valid.
                logger.info("No SQL for %s of %s", operation, step.label, exc_info=True)
                sql = None
        yield Operation(description=describe_operation(operation), opaque=opaque, sql=sql)


class _OtherDatabaseWritten(Exception):
    """An operation writes to a database that the plan is not for."""


@contextmanager
def _executing_only_reads(alias: str, collect: Callable[[str], None]) -> Iterator[None]:
    """Execute nothing that may change something, in this thread: an operation of another
    package may send statements through a cursor or a model.

    `collect` receives those to the database, with their placeholders. One to another
    database raises `_OtherDatabaseWritten`.
    """

    def execute_reads(
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django calls it so
        context: Any,
    ) -> Any:
        text = str(sql)
        if only_reads(text) or first_word(text) in TRANSACTION_WORDS:
            return execute(sql, params, many, context)
        if context["connection"].alias != alias:
            raise _OtherDatabaseWritten(context["connection"].alias)
        collect(text)
        return None

    with ExitStack() as guarded:
        for connection in usable_wrappers():
            guarded.enter_context(connection.execute_wrapper(execute_reads))
        yield


@contextmanager
def _without_parameters(
    editor: BaseDatabaseSchemaEditor, operation: MigrationOperation
) -> Iterator[None]:
    """Make the editor collect the statements of raw SQL with their placeholders: parameters
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
        del editor.execute  # restores the method of the class


def _runs_raw_sql(operation: MigrationOperation) -> bool:
    inner = getattr(operation, "database_operations", ())
    return isinstance(operation, RunSQL) or any(map(_runs_raw_sql, inner))


def _deferred(editor: BaseDatabaseSchemaEditor, label: str) -> tuple[str, ...] | None:
    """Return the deferred statements of a step, written by the editor itself
    (`BaseDatabaseSchemaEditor.__exit__`): the editor of another package may defer objects
    other than text, such as several statements in one."""
    start = len(editor.collected_sql)
    try:
        for statement in editor.deferred_sql:
            editor.execute(statement, None)
    except Exception:
        logger.info("No SQL for the end of %s", label, exc_info=True)
        return None
    return tuple(editor.collected_sql[start:])
