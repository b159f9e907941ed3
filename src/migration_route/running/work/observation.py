"""What does Django's executor do, step by step, operation by operation?

Seen from outside: the executor, its operations and its statements do exactly what they
do without us. For a process that exists for this alone, since the executor's class is
wrapped while somebody observes.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState


class Observer(Protocol):
    """Somebody who is told. Durations are in milliseconds."""

    def step_starts(
        self, migration: Migration, state: ProjectState, *, backwards: bool
    ) -> None:
        """Before anything of a step is sent; raising here stops the run cleanly. `state`
        is the one before the migration."""

    def step_finished(self, migration: Migration, duration_ms: int) -> None:
        """When a step is committed and recorded."""

    def operation_started(self, position: int, operation: Operation) -> None:
        """Before an operation; `position` counts from 0 in the migration's list."""

    def operation_finished(self, position: int, duration_ms: int) -> None:
        """After an operation that did not fail."""

    def operation_begins(self, position: int, operation: Operation, *, count: int) -> None:
        """Before an operation that no transaction of its step would undo; `count`
        others have come before it. Raising here stops the run."""

    def operation_returns(self, position: int, duration_ms: int, *, count: int) -> None:
        """After such an operation, inside of the transaction that is its own."""

    def step_ends(self, *, count: int) -> None:
        """After all operations, before what is deferred, where the step is recorded
        later than it is committed."""

    def statement_starts(self, sql: str) -> None:
        """Before a statement is sent."""

    def statement_finished(
        self, sql: str, duration_ms: int, error: Exception | None
    ) -> None:
        """After a statement, with what the database said against it."""


class Carrier(Protocol):
    """Somebody who carries out a step by calling the executor's method; once or more."""

    def __call__(
        self,
        executor: MigrationExecutor,
        method: Callable[..., Any],
        state: Any,
        migration: Migration,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Return what the method returned."""


def once(
    executor: MigrationExecutor,
    method: Callable[..., Any],
    state: Any,
    migration: Migration,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Carry out a step as Django does."""
    return method(executor, state, migration, *args, **kwargs)


@contextmanager
def observed(observer: Observer, carried: Carrier = once) -> Iterator[None]:
    """Tell `observer` what every executor of this process does, while the block lasts.

    Each step is handed to `carried`, which may repeat what the database has undone.
    """
    apply, unapply = (
        MigrationExecutor.apply_migration,
        MigrationExecutor.unapply_migration,
    )

    @functools.wraps(apply)
    def observed_apply(
        self: MigrationExecutor,
        state: Any,
        migration: Migration,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        with _step(observer, self.connection, migration, state, backwards=False):
            return carried(self, apply, state, migration, *args, **kwargs)

    @functools.wraps(unapply)
    def observed_unapply(
        self: MigrationExecutor,
        state: Any,
        migration: Migration,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        with _step(observer, self.connection, migration, state, backwards=True):
            return carried(self, unapply, state, migration, *args, **kwargs)

    MigrationExecutor.apply_migration = observed_apply  # type: ignore[method-assign]
    MigrationExecutor.unapply_migration = observed_unapply  # type: ignore[method-assign]
    try:
        yield
    finally:
        MigrationExecutor.apply_migration = apply  # type: ignore[method-assign]
        MigrationExecutor.unapply_migration = unapply  # type: ignore[method-assign]


@contextmanager
def _step(
    observer: Observer,
    connection: BaseDatabaseWrapper,
    migration: Migration,
    state: ProjectState,
    *,
    backwards: bool,
) -> Iterator[None]:
    observer.step_starts(migration, state, backwards=backwards)
    start = time.monotonic()
    with (
        _operations(observer, migration, backwards=backwards),
        _end(observer, migration, backwards=backwards),
        connection.execute_wrapper(statements_told(observer)),
    ):
        yield
    observer.step_finished(migration, _milliseconds(start))


@contextmanager
def _operations(
    observer: Observer, migration: Migration, *, backwards: bool
) -> Iterator[None]:
    """Wrap the operations of one migration, each on the instance alone."""
    wrapped: list[tuple[Operation, str]] = []
    for position, operation in enumerate(migration.operations):
        for method in ("database_forwards", "database_backwards"):
            if method not in vars(operation):
                run = getattr(operation, method)
                count = len(migration.operations) - 1 - position if backwards else position
                observed_run = _observed(observer, position, count, operation, run)
                setattr(operation, method, observed_run)
                wrapped.append((operation, method))
    try:
        yield
    finally:
        for operation, method in wrapped:
            vars(operation).pop(method, None)


@contextmanager
def _end(observer: Observer, migration: Migration, *, backwards: bool) -> Iterator[None]:
    """Tell when all operations of a migration have been carried out, where Django
    records it in another transaction than that (`MigrationExecutor.apply_migration`)."""
    method = "unapply" if backwards else "apply"
    run = getattr(migration, method)

    @functools.wraps(run)
    def observed_run(state: Any, editor: Any, *args: Any, **kwargs: Any) -> Any:
        result = run(state, editor, *args, **kwargs)
        if not editor.atomic_migration or backwards or editor.deferred_sql:
            observer.step_ends(count=len(migration.operations))
        return result

    setattr(migration, method, observed_run)
    try:
        yield
    finally:
        vars(migration).pop(method, None)


def _observed(
    observer: Observer,
    position: int,
    count: int,
    operation: Operation,
    run: Callable[..., Any],
) -> Callable[..., Any]:
    @functools.wraps(run)
    def observed_run(app: str, editor: Any, *args: Any, **kwargs: Any) -> Any:
        stays = not editor.atomic_migration  # whatever becomes of the step
        if stays:
            observer.operation_begins(position, operation, count=count)
        else:
            observer.operation_started(position, operation)
        start = time.monotonic()
        result = run(app, editor, *args, **kwargs)
        if stays and editor.connection.in_atomic_block:
            observer.operation_returns(position, _milliseconds(start), count=count)
        else:
            observer.operation_finished(position, _milliseconds(start))
        return result

    return observed_run


def statements_told(observer: Observer) -> Callable[..., Any]:
    """Return what a connection wraps its statements in, so that they are told."""

    def observe(
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django calls it so
        context: Any,
    ) -> Any:
        text = str(sql)
        observer.statement_starts(text)
        start = time.monotonic()
        try:
            result = execute(sql, params, many, context)
        except Exception as error:
            observer.statement_finished(text, _milliseconds(start), error)
            raise
        observer.statement_finished(text, _milliseconds(start), None)
        return result

    return observe


def _milliseconds(start: float) -> int:
    return round((time.monotonic() - start) * 1000)
