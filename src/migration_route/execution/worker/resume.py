"""How does a migration go on behind the operations that an earlier run has carried out?

Those are gone through with their statements left out: the state of the project goes on,
and what they keep for the end of the migration is kept. For a worker, which ends
afterwards: its migration stays changed.

How is an invalid index made anew? It is dropped right before it is made.

Only on request: `order.rebuild_invalid_indexes`.
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration, SeparateDatabaseAndState
from django.db.migrations.operations import models
from django.db.migrations.operations.base import Operation

from migration_route.execution.messages import WorkOrder
from migration_route.execution.worker.operation_positions import Place
from migration_route.execution.worker.plan_guard import Resumed
from migration_route.execution.worker.reporter import Reporter, only_reads
from migration_route.vendors import vendor_of
from migration_route.vendors.sql_statements import NAME


@contextmanager
def rebuild_invalid_indexes(order: WorkOrder, reporter: Reporter) -> Iterator[None]:
    """Drop each invalid index that the worker is about to make concurrently."""
    if not order.rebuild_invalid_indexes:
        yield
        return
    connection = connections[order.database]
    vendor = vendor_of(order.database)

    def rebuild(
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django calls it so
        context: Any,
    ) -> Any:
        # The catalog is asked with statements of this connection: none of them fits again.
        if drop := vendor.index_in_the_way(connection, str(sql)):
            reporter.index_dropped(drop)
            with connection.cursor() as cursor:
                cursor.execute(drop)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(rebuild):
        yield


# They send what they do at once, and keep nothing for the end.
_AT_ONCE = (
    models.AddConstraint,
    models.AddIndex,
    models.AlterTogetherOptionOperation,
    models.RemoveConstraint,
    models.RemoveIndex,
)

# What the schema editor sends last for a column, and may be sent again.
_LAST_OF_A_COLUMN = re.compile(
    rf"ALTER TABLE {NAME} ALTER COLUMN {NAME} DROP DEFAULT;?$|COMMENT ON COLUMN ",
    re.IGNORECASE,
)


class CannotSkipOperation(Exception):
    """An operation that is carried out already would send something that changes."""


def skip_completed_operations(
    migration: Migration, places: Sequence[Place], resumed: Resumed, *, backwards: bool
) -> None:
    """Leave out what an earlier run of a migration has carried out: the first operations
    of its source in the order of execution, and the first of those that other packages
    have added. `places` are those of the operations that run.

    An index that the next operation has left invalid is for `rebuilding`.
    """
    method = "database_backwards" if backwards else "database_forwards"
    for place, operation in zip(places, migration.operations, strict=True):
        if place.added.begun is not None:
            if place.added.begun < resumed.added.done:
                _leave_out(operation, method, is_last=False)
        elif place.count < resumed.done:
            _leave_out(operation, method, is_last=place.count == resumed.done - 1)
    whole = "unapply" if backwards else "apply"
    setattr(migration, whole, _without_what_exists(getattr(migration, whole)))


def _leave_out(operation: Operation, method: str, *, is_last: bool) -> None:
    """Leave out what an operation sends; of the last one that has begun, not the dropping
    of a default that has filled a column, which may be lacking."""
    if isinstance(operation, SeparateDatabaseAndState):
        # Copies: a part may be listed elsewhere as well, where it has not been carried out.
        operation.database_operations = list(map(copy.copy, operation.database_operations))
        for part in operation.database_operations:
            _leave_out(part, method, is_last=is_last)
    run = getattr(operation, method)
    keeps_something = operation.reduces_to_sql and not isinstance(operation, _AT_ONCE)

    @functools.wraps(run)
    def left_out(app: str, editor: Any, *args: Any, **kwargs: Any) -> None:
        if keeps_something:
            with _collecting(editor):
                run(app, editor, *args, **kwargs)
            if is_last:
                _complete(editor)

    vars(left_out)["is_left_out"] = True
    setattr(operation, method, left_out)


@contextmanager
def _collecting(editor: Any) -> Iterator[None]:
    """Let a schema editor write its statements down instead of sending them."""
    before = editor.collect_sql
    editor.collect_sql = True
    editor.collected_sql, editor.collected_table_renames = [], {}
    try:
        with editor.connection.execute_wrapper(_reading_only):
            yield
    finally:
        editor.collect_sql = before


def _complete(editor: Any) -> None:
    """Send those of the collected statements that may be lacking, and do nothing where
    they are not: the dropping of a default, the comment of a column behind it."""
    for statement in map(str, editor.collected_sql):
        if _LAST_OF_A_COLUMN.match(statement):
            editor.execute(statement.rstrip(";"), params=None)


def _reading_only(
    execute: Callable[..., Any],
    sql: Any,
    params: Any,
    many: bool,  # noqa: FBT001 - Django calls it so
    context: Any,
) -> Any:
    if not only_reads(str(sql)):
        raise CannotSkipOperation(f"This is carried out already, and would be again: {sql}")
    return execute(sql, params, many, context)


def _without_what_exists(run: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(run)
    def observed_run(state: Any, editor: Any, *args: Any, **kwargs: Any) -> Any:
        result = run(state, editor, *args, **kwargs)
        editor.deferred_sql = [
            statement
            for statement in editor.deferred_sql
            if not _exists(statement, editor.connection)
        ]
        return result

    return observed_run


def _exists(statement: Any, connection: BaseDatabaseWrapper) -> bool:
    """Tell whether the index or constraint of a statement is there."""
    parts = getattr(statement, "parts", {})
    if "name" not in parts or not hasattr(parts.get("table"), "table"):
        return False
    reader = vendor_of(connection.alias).catalog
    table = str(parts["table"].table)
    with connection.cursor() as cursor:
        broken = reader.invalid_indexes(cursor, table)
        there = set(connection.introspection.get_constraints(cursor, table)) - broken
    return reader.stored(str(parts["name"])) in set(map(reader.stored, there))
