"""Observes what Django's executor does, step by step, operation by operation and statement
by statement.

The executor, its operations and its statements behave exactly as without observation. For a
process that exists only for this: the class of the executor is wrapped while it is
observed.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from migration_route.execution.worker.operation_positions import (
    Layout,
    OperationPosition,
    is_repeatable,
)


class MigrationObserver:
    """Receives the events of a migration, and does nothing by default. Durations are in
    milliseconds.

    Of several observers, each start is reported to the first one first, and each end to the
    last one first.
    """

    def step_starts(
        self, migration: Migration, state: ProjectState, *, backwards: bool
    ) -> None:
        """Before anything of a step is sent; raising here stops the run cleanly. `state` is
        the one before the migration."""

    def step_finished(self, migration: Migration, duration_ms: int) -> None:
        """When a step is committed and recorded."""

    def operation_started(self, position: int | None, operation: Operation) -> None:
        """Before an operation; `position` counts from 0 in the list of the migration's
        source, and is None for an operation added by another package."""

    def operation_finished(self, position: int | None, duration_ms: int) -> None:
        """After an operation that did not fail."""

    def operation_begins(self, place: OperationPosition, operation: Operation) -> None:
        """Before an operation that no transaction of its step would undo. Raising here
        stops the run."""

    def operation_returns(self, place: OperationPosition, duration_ms: int) -> None:
        """After such an operation, inside its own transaction."""

    def step_ends(self, place: OperationPosition) -> None:
        """After all operations, before the deferred statements, if the step is recorded
        later than it is committed."""

    def statement_starts(self, sql: str) -> None:
        """Before a statement is sent."""

    def statement_finished(
        self, sql: str, duration_ms: int, error: Exception | None
    ) -> None:
        """After a statement, with the error of the database, if any."""


class StepRunner(Protocol):
    """Runs a step of an executor, once or more."""

    def __call__(
        self,
        executor: MigrationExecutor,
        migration: Migration,
        state: Any,
        run: Callable[[Any], Any],
    ) -> Any:
        """Return what `run` returned, which executes the step from a state."""


def run_once(
    executor: MigrationExecutor,
    migration: Migration,
    state: Any,
    run: Callable[[Any], Any],
) -> Any:
    """Run a step as Django does."""
    del executor, migration
    return run(state)


@contextmanager
def instrument(
    observers: Sequence[MigrationObserver],
    runner: StepRunner,
    layout_of: Callable[[Migration], Layout],
) -> Iterator[None]:
    """Report to `observers` what every executor of this process does, in this block.

    Each step is passed to `runner`, which may repeat what the database has rolled back;
    `layout_of` returns the positions of its operations.
    """
    apply, unapply = (
        MigrationExecutor.apply_migration,
        MigrationExecutor.unapply_migration,
    )

    def observed(method: Callable[..., Any], *, backwards: bool) -> Any:
        @functools.wraps(method)
        def run_observed(
            self: MigrationExecutor,
            state: Any,
            migration: Migration,
            *args: Any,
            **kwargs: Any,
        ) -> Any:
            def run(start: Any) -> Any:
                return method(self, start, migration, *args, **kwargs)

            with _step(
                observers, self.connection, migration, state, layout_of, backwards=backwards
            ):
                return runner(self, migration, state, run)

        return run_observed

    executor: Any = MigrationExecutor
    executor.apply_migration = observed(apply, backwards=False)
    executor.unapply_migration = observed(unapply, backwards=True)
    try:
        yield
    finally:
        executor.apply_migration, executor.unapply_migration = apply, unapply


@contextmanager
def _step(
    observers: Sequence[MigrationObserver],
    connection: BaseDatabaseWrapper,
    migration: Migration,
    state: ProjectState,
    layout_of: Callable[[Migration], Layout],
    *,
    backwards: bool,
) -> Iterator[None]:
    for observer in observers:
        observer.step_starts(migration, state, backwards=backwards)
    layout = layout_of(migration)
    start = time.monotonic()
    with (
        _operations(observers, migration, layout, backwards=backwards),
        _end(observers, migration, layout, backwards=backwards),
        connection.execute_wrapper(_reporting(observers)),
    ):
        yield
    took = _milliseconds(start)
    for observer in reversed(observers):
        observer.step_finished(migration, took)


@contextmanager
def _operations(
    observers: Sequence[MigrationObserver],
    migration: Migration,
    layout: Layout,
    *,
    backwards: bool,
) -> Iterator[None]:
    """Wrap the operations of one migration, on the instances alone, except those that are
    skipped."""
    method = "database_backwards" if backwards else "database_forwards"
    under_way: list[Operation] = []
    originals: list[tuple[Operation, Any]] = []
    places = layout.places(backwards=backwards)
    for place, operation in zip(places, migration.operations, strict=True):
        run = getattr(operation, method)
        if not getattr(run, "is_left_out", False):
            originals.append((operation, vars(operation).get(method)))
            run = _observe(observers, place, operation, run, under_way)
            setattr(operation, method, run)
    try:
        yield
    finally:
        for operation, own in originals:
            if own is None:
                vars(operation).pop(method, None)
            else:
                setattr(operation, method, own)


@contextmanager
def _end(
    observers: Sequence[MigrationObserver],
    migration: Migration,
    layout: Layout,
    *,
    backwards: bool,
) -> Iterator[None]:
    """Report that all operations of a migration are complete, if Django records the
    migration in a separate transaction (`MigrationExecutor.apply_migration`)."""
    method = "unapply" if backwards else "apply"
    run = getattr(migration, method)

    @functools.wraps(run)
    def observed_run(state: Any, editor: Any, *args: Any, **kwargs: Any) -> Any:
        result = run(state, editor, *args, **kwargs)
        if not editor.atomic_migration or backwards or editor.deferred_sql:
            for observer in reversed(observers):
                observer.step_ends(layout.end(backwards=backwards))
        return result

    setattr(migration, method, observed_run)
    try:
        yield
    finally:
        vars(migration).pop(method, None)


def _observe(
    observers: Sequence[MigrationObserver],
    place: OperationPosition,
    operation: Operation,
    run: Callable[..., Any],
    under_way: list[Operation],
) -> Callable[..., Any]:
    """Wrap an operation. An operation called by another one is a part of it, for example if
    the lists of `SeparateDatabaseAndState` and of its migration share it."""

    @functools.wraps(run)
    def observed_run(app: str, editor: Any, *args: Any, **kwargs: Any) -> Any:
        if under_way:
            return run(app, editor, *args, **kwargs)
        under_way.append(operation)
        try:
            return observe(app, editor, *args, **kwargs)
        finally:
            under_way.clear()

    def observe(app: str, editor: Any, *args: Any, **kwargs: Any) -> Any:
        persists = not editor.atomic_migration  # even if the step fails
        has_transaction = editor.connection.in_atomic_block
        is_undone = has_transaction or is_repeatable(operation)
        for observer in observers:
            if persists:
                observer.operation_begins(_with_repeatable(place, is_undone), operation)
            else:
                observer.operation_started(place.position, operation)
        start = time.monotonic()
        result = run(app, editor, *args, **kwargs)
        took = _milliseconds(start)
        is_uncommitted = has_transaction and editor.connection.in_atomic_block
        returned = _with_repeatable(place, is_repeatable(operation))
        for observer in reversed(observers):
            if persists and is_uncommitted:
                observer.operation_returns(returned, took)
            else:
                observer.operation_finished(place.position, took)
        return result

    return observed_run


def _with_repeatable(place: OperationPosition, repeatable: bool) -> OperationPosition:  # noqa: FBT001 - the value to set
    """Return the position of an operation, with whether it can be repeated."""
    if place.added.begun is None:
        return place
    return replace(place, added=replace(place.added, repeatable=repeatable))


Send = Callable[[], Any]
"""Sends a statement, and returns what its cursor returns."""


def statement_wrapper(
    handle: Callable[[Send, Any, Any], Any],
) -> Callable[..., Any]:
    """Return Django's execute wrapper for a function that gets `send`, a statement and
    Django's context of it."""

    def wrapper(
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django calls it so
        context: Any,
    ) -> Any:
        return handle(lambda: execute(sql, params, many, context), sql, context)

    return wrapper


@contextmanager
def outermost_wrapper(
    connection: BaseDatabaseWrapper, wrapper: Callable[..., Any]
) -> Iterator[None]:
    """Add an execute wrapper around all others, in this block."""
    connection.execute_wrappers.insert(0, wrapper)
    try:
        yield
    finally:
        connection.execute_wrappers.remove(wrapper)


def _reporting(observers: Sequence[MigrationObserver]) -> Callable[..., Any]:
    """Return an execute wrapper that reports each statement."""

    def report(send: Send, sql: Any, context: Any) -> Any:
        del context
        text = str(sql)
        for observer in observers:
            observer.statement_starts(text)
        start = time.monotonic()
        try:
            result = send()
        except Exception as error:
            finished(text, _milliseconds(start), error)
            raise
        finished(text, _milliseconds(start), None)
        return result

    def finished(text: str, took: int, error: Exception | None) -> None:
        for observer in reversed(observers):
            observer.statement_finished(text, took, error)

    return statement_wrapper(report)


def _milliseconds(start: float) -> int:
    return round((time.monotonic() - start) * 1000)
