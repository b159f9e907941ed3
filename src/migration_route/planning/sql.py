"""Which SQL would each operation send?

Collected with Django's schema editor, on a connection of the route's own, without
executing anything. An operation that cannot be written as SQL stays opaque.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from django.db import connections
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations import Migration, RunSQL
from django.db.migrations.operations.base import Operation as MigrationOperation

from migration_route.connecting import own_connection
from migration_route.planning import graph as graphs
from migration_route.planning.plan import Details, Operation, Step
from migration_route.planning.planner import describe_operation
from migration_route.planning.states import Move, plan_moves

logger = logging.getLogger("migration_route.planning")

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
    with own_connection(alias):
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
