"""Resumes a migration after the operations that an earlier run completed, and rebuilds
invalid indexes.

Completed operations run with their statements skipped: the project state advances, and what
they defer to the end of the migration is kept. For a worker, which ends afterwards: its
migration stays changed. An invalid index is dropped right before it is created again, only
on request (`order.rebuild_invalid_indexes`).
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
from migration_route.execution.worker.instrumentation import Send, statement_wrapper
from migration_route.execution.worker.operation_positions import OperationPosition
from migration_route.execution.worker.plan_guard import ResumedStep
from migration_route.execution.worker.reporter import Reporter
from migration_route.vendors import vendor_of
from migration_route.vendors.sql_statements import NAME, only_reads


@contextmanager
def rebuild_invalid_indexes(order: WorkOrder, reporter: Reporter) -> Iterator[None]:
    """Drop each invalid index that the worker is about to create concurrently."""
    if not order.rebuild_invalid_indexes:
        yield
        return
    connection = connections[order.database]
    vendor = vendor_of(order.database)

    def rebuild(send: Send, sql: Any, context: Any) -> Any:
        del context
        # The catalog is read through this wrapper too; those statements never match.
        if drop := vendor.colliding_index(connection, str(sql)):
            reporter.index_dropped(drop)
            with connection.cursor() as cursor:
                cursor.execute(drop)
        return send()

    with connection.execute_wrapper(statement_wrapper(rebuild)):
        yield


# They send their statements at once and defer nothing to the end.
_NOT_DEFERRING = (
    models.AddConstraint,
    models.AddIndex,
    models.AlterTogetherOptionOperation,
    models.RemoveConstraint,
    models.RemoveIndex,
)

# The last statements of the schema editor for a column, safe to repeat.
_LAST_OF_A_COLUMN = re.compile(
    rf"ALTER TABLE {NAME} ALTER COLUMN {NAME} DROP DEFAULT;?$|COMMENT ON COLUMN ",
    re.IGNORECASE,
)


class CannotSkipOperation(Exception):
    """A completed operation would send a statement that changes something."""


def skip_completed_operations(
    migration: Migration,
    places: Sequence[OperationPosition],
    resumed: ResumedStep,
    *,
    backwards: bool,
) -> None:
    """Skip what an earlier run of a migration completed: the first operations of its source
    in the order of execution, and the first of those that other packages added. `places`
    are the positions of the operations that run.

    An index that the next operation left invalid is for `rebuild_invalid_indexes`.
    """
    method = "database_backwards" if backwards else "database_forwards"
    for place, operation in zip(places, migration.operations, strict=True):
        if place.added.begun is not None:
            if place.added.begun < resumed.added.done:
                _skip(operation, method, is_last=False)
        elif place.count < resumed.done:
            _skip(operation, method, is_last=place.count == resumed.done - 1)
    whole = "unapply" if backwards else "apply"
    setattr(migration, whole, _without_what_exists(getattr(migration, whole)))


def _skip(operation: Operation, method: str, *, is_last: bool) -> None:
    """Skip what an operation sends; except, for the last one that started, the dropping of
    a default that filled a column, which may be missing."""
    if isinstance(operation, SeparateDatabaseAndState):
        # Copies: a part may also be listed elsewhere, where it has not run.
        operation.database_operations = list(map(copy.copy, operation.database_operations))
        for part in operation.database_operations:
            _skip(part, method, is_last=is_last)
    run = getattr(operation, method)
    defers_something = operation.reduces_to_sql and not isinstance(
        operation, _NOT_DEFERRING
    )

    @functools.wraps(run)
    def skipped(app: str, editor: Any, *args: Any, **kwargs: Any) -> None:
        if defers_something:
            with _collecting(editor):
                run(app, editor, *args, **kwargs)
            if is_last:
                _complete(editor)

    vars(skipped)["is_left_out"] = True
    setattr(operation, method, skipped)


@contextmanager
def _collecting(editor: Any) -> Iterator[None]:
    """Make a schema editor collect its statements instead of sending them."""
    before = editor.collect_sql
    editor.collect_sql = True
    editor.collected_sql, editor.collected_table_renames = [], {}
    try:
        with editor.connection.execute_wrapper(statement_wrapper(_require_read_only)):
            yield
    finally:
        editor.collect_sql = before


def _complete(editor: Any) -> None:
    """Send the collected statements that may be missing and are safe to repeat: the
    dropping of a default, and the comment of a column after it."""
    for statement in map(str, editor.collected_sql):
        if _LAST_OF_A_COLUMN.match(statement):
            editor.execute(statement.rstrip(";"), params=None)


def _require_read_only(send: Send, sql: Any, context: Any) -> Any:
    del context
    if not only_reads(str(sql)):
        raise CannotSkipOperation(f"This operation is complete but would run again: {sql}")
    return send()


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
    """Return whether the index or constraint of a statement exists."""
    parts = getattr(statement, "parts", {})
    if "name" not in parts or not hasattr(parts.get("table"), "table"):
        return False
    reader = vendor_of(connection.alias).catalog
    table = str(parts["table"].table)
    with connection.cursor() as cursor:
        invalid = reader.invalid_indexes(cursor, table)
        existing = set(connection.introspection.get_constraints(cursor, table)) - invalid
    return reader.stored(str(parts["name"])) in set(map(reader.stored, existing))
