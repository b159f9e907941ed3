"""Observes what each statement of a rehearsal does, right after it has run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from django.db import connections
from django.db.migrations import Migration, RunPython
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from migration_route.core.redaction import clipped
from migration_route.execution.messages import WorkOrder
from migration_route.execution.worker.instrumentation import (
    MigrationObserver,
    Send,
    StepRunner,
    statement_wrapper,
)
from migration_route.execution.worker.operation_positions import OperationPosition
from migration_route.execution.worker.planned_sql import plan_step, sql_differences
from migration_route.execution.worker.reporter import Reporter
from migration_route.ledger.rehearsals import (
    ObservedLock,
    ObservedOperation,
    ObservedStatement,
)
from migration_route.planning.plan import Step
from migration_route.planning.planner import describe_operation
from migration_route.planning.sql import DEFERRED_SQL_DESCRIPTION
from migration_route.vendors import copies_of
from migration_route.vendors.base_rehearsal import StatementEffects, StatementObserver
from migration_route.vendors.sql_statements import (
    TRANSACTION_WORDS,
    first_word,
    only_reads,
)

_LISTED = 60  # statements of an operation
_SLOWEST = 5  # of the queries of Python
_KEPT = 200  # before the uninteresting ones are dropped
_LONGEST = 2000
_DISTINCT = 10_000


@dataclass(slots=True)
class _OperationProbe:
    """What is observed of one operation. Queries of Python code with the same text are
    reported once: by the slowest, with their number and total duration."""

    position: int | None  # None: the end, or an operation of another package
    description: str
    is_end: bool = False
    runs_python: bool = False
    start: float = field(default_factory=time.monotonic)
    duration_ms: int | None = None  # None: not finished
    queries: int = 0
    texts: set[int] = field(default_factory=set)
    sent: list[str] = field(default_factory=list)  # of an operation that is not Python
    statements: list[tuple[float, ObservedStatement]] = field(default_factory=list)
    same: dict[int, int] = field(default_factory=dict)  # index in `statements`, by text

    def add(self, at: float, statement: ObservedStatement, text: str) -> None:
        self.queries += 1
        if not self.runs_python and not only_reads(text):
            self.sent.append(text)
        key = hash(text)
        if len(self.texts) < _DISTINCT:
            self.texts.add(key)
        if self.runs_python and key in self.same:
            earlier_at, earlier = self.statements[self.same[key]]
            self.statements[self.same[key]] = earlier_at, _merged(earlier, statement)
            return
        self.same[key] = len(self.statements)
        self.statements.append((at, statement))
        if len(self.statements) > _KEPT:
            self.statements = self._relevant_statements()
            self.same = {}

    def _relevant_statements(self) -> list[tuple[float, ObservedStatement]]:
        """Return the statements that took locks or failed, and the slowest others."""
        most = _SLOWEST if self.runs_python else _LISTED
        relevant = [
            (at, found)
            for at, found in self.statements
            if found.failed or found.rewrites or (found.locks and not self.runs_python)
        ][:_LISTED]
        others = [
            item
            for item in self.statements
            # Django's own reads of the catalog are of no use to the reader.
            if item not in relevant and (self.runs_python or not only_reads(item[1].sql))
        ]
        others.sort(key=lambda item: -item[1].total_ms)
        kept = relevant + others[: max(most - len(relevant), 0)]
        return sorted(kept, key=lambda item: item[0])

    def seen(self, end: float) -> ObservedOperation:
        """Return the operation as reported at the end of the step."""
        kept = self._relevant_statements()
        return ObservedOperation(
            position=self.position,
            description=self.description,
            duration_ms=round((end - self.start) * 1000)
            if self.duration_ms is None
            else self.duration_ms,
            runs_python=self.runs_python,
            queries=self.queries,
            distinct=len(self.texts),
            omitted=self.queries - sum(found.times for _, found in kept),
            statements=tuple(_with_lock_times(at, found, end) for at, found in kept),
        )


def _merged(earlier: ObservedStatement, later: ObservedStatement) -> ObservedStatement:
    """Merge two executions of one statement: the slower one, with the totals of both."""
    slower = max(earlier, later, key=lambda found: found.duration_ms)
    rows = None if later.rows is None else (earlier.rows or 0) + later.rows
    return replace(
        slower,
        times=earlier.times + 1,
        total_ms=earlier.total_ms + later.duration_ms,
        rows=rows,
        locks=earlier.locks or later.locks,
        rewrites=tuple(sorted({*earlier.rewrites, *later.rewrites})),
        failed=later.failed,
    )


def _with_lock_times(
    at: float, statement: ObservedStatement, end: float
) -> ObservedStatement:
    if not statement.locks:
        return statement
    held = round((end - at) * 1000)
    locks = tuple(replace(lock, held_ms=held) for lock in statement.locks)
    return replace(statement, locks=locks)


class StatementProbe(MigrationObserver):
    """An observer of a run, and the runner of its steps, that observes each statement."""

    def __init__(
        self,
        runner: StepRunner,
        reporter: Reporter,
        observer: StatementObserver,
        *,
        alias: str,
        compares: bool,
    ) -> None:
        """Observe the steps on a database. `compares`: also compare what they send with the
        plan, for which its catalog is read outside of a transaction."""
        self._alias = alias
        self._runner = runner
        self._reporter = reporter
        self._observer = observer
        self._operations: list[_OperationProbe] = []
        self._current: _OperationProbe | None = None
        self._compares = compares
        self._planned: Step | None = None  # with the SQL of the plan

    # --- the observer -----------------------------------------------------------------

    def step_starts(
        self, migration: Migration, state: ProjectState, *, backwards: bool
    ) -> None:
        if self._compares:
            self._planned = plan_step(migration, state, self._alias, backwards=backwards)

    def operation_started(self, position: int | None, operation: Operation) -> None:
        self._begin(position, operation)

    def operation_finished(self, position: int | None, duration_ms: int) -> None:
        del position
        self._end(duration_ms)

    def operation_begins(self, place: OperationPosition, operation: Operation) -> None:
        self._begin(place.position, operation)

    def operation_returns(self, place: OperationPosition, duration_ms: int) -> None:
        del place
        self._end(duration_ms)

    def _begin(self, position: int | None, operation: Operation) -> None:
        self._current = _OperationProbe(
            position=position,
            description=describe_operation(operation),
            runs_python=isinstance(operation, RunPython),
        )
        self._operations.append(self._current)

    def _end(self, duration_ms: int) -> None:
        if self._current is not None:
            self._current.duration_ms = duration_ms
        self._current = None

    # --- the runner -------------------------------------------------------------------

    def __call__(
        self,
        executor: MigrationExecutor,
        migration: Migration,
        state: Any,
        run: Callable[[Any], Any],
    ) -> Any:
        """Run a step and report what was observed, also when it fails."""
        self._operations, self._current = [], None
        # In place: earlier locks are not the step's.
        if executor.connection.in_atomic_block:
            self._observer.look(executor.connection, "")
        differences: tuple[str, ...] = ()
        try:
            with executor.connection.execute_wrapper(statement_wrapper(self._observe)):
                result = self._runner(executor, migration, state, run)
            differences = self._differences(executor.connection.vendor)
        finally:
            end = time.monotonic()
            seen = [found.seen(end) for found in self._operations]
            self._reporter.watched(
                [msgspec.to_builtins(found) for found in seen], differences
            )
        return result

    def _differences(self, vendor: str) -> tuple[str, ...]:
        if self._planned is None:
            return ()
        at_end = [found for found in self._operations if found.is_end]
        return sql_differences(
            self._planned,
            [found.sent for found in self._operations if not found.is_end],
            [text for found in at_end for text in found.sent],
            vendor=vendor,
        )

    def _observe(self, send: Send, sql: Any, context: Any) -> Any:
        text, start = str(sql), time.monotonic()
        try:
            result = send()
        except Exception:
            self._note(text, start, rows=None, seen=StatementEffects(), failed=True)
            raise
        took = time.monotonic()
        rows = getattr(context["cursor"], "rowcount", -1)
        seen = StatementEffects()
        # A repeated query of Python code takes the same locks: do not slow a loop down.
        if not self._is_known(text) and (
            not only_reads(text) or first_word(text) == "select"
        ):
            seen = self._observer.look(context["connection"], text)
        self._note(text, start, took=took, rows=rows, seen=seen)
        return result

    def _is_known(self, text: str) -> bool:
        current = self._current
        return current is not None and current.runs_python and hash(text) in current.texts

    def _note(
        self,
        text: str,
        start: float,
        *,
        rows: int | None,
        seen: StatementEffects,
        took: float | None = None,
        failed: bool = False,
    ) -> None:
        if self._current is None and _is_bookkeeping(text):
            return
        if self._current is None and not self._has_end():
            self._operations.append(
                _OperationProbe(
                    position=None, description=DEFERRED_SQL_DESCRIPTION, is_end=True
                )
            )
        current = self._current or self._operations[-1]
        duration_ms = round(((took or time.monotonic()) - start) * 1000)
        current.add(
            start,
            ObservedStatement(
                sql=clipped(self._reporter.template_of(text), _LONGEST),
                duration_ms=duration_ms,
                total_ms=duration_ms,
                rows=None if rows is None or rows < 0 or _is_definition(text) else rows,
                locks=None
                if seen.locks is None
                else tuple(
                    ObservedLock(table=table, mode=mode, blocks=self._observer.blocks(mode))
                    for table, mode in seen.locks
                ),
                rewrites=seen.rewrites,
                failed=failed,
            ),
            text,
        )
        if current.is_end:
            current.duration_ms = (current.duration_ms or 0) + duration_ms

    def _has_end(self) -> bool:
        return bool(self._operations) and self._operations[-1].is_end


def _is_bookkeeping(text: str) -> bool:
    """Return whether a statement is Django's own record of a step, or how its editor starts
    and ends."""
    return (
        "django_migrations" in text
        or only_reads(text)
        or first_word(text) in TRANSACTION_WORDS
    )


def _is_definition(text: str) -> bool:
    return first_word(text) in {"create", "alter", "drop", "comment"}


@contextmanager
def probe_statements(
    order: WorkOrder, runner: StepRunner, reporter: Reporter
) -> Iterator[tuple[list[MigrationObserver], StepRunner]]:
    """Yield the runner of the steps of an order and its observers: in a rehearsal, one that
    observes every statement."""
    if order.scratch is None and order.in_place is None:
        yield [], runner
        return
    observer = copies_of(order.database).observer()
    observer.remember(connections[order.database])
    found = StatementProbe(
        runner,
        reporter,
        observer,
        alias=order.database,
        compares=order.in_place is None,
    )
    yield [found], found
