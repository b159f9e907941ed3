"""How are the steps of an order carried out: to stay, or to leave no trace?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState

from migration_route.running.messages import Order
from migration_route.running.work.barred import Barred, barred
from migration_route.running.work.limits import gentle
from migration_route.running.work.observation import Carrier
from migration_route.running.work.reporter import Reporter


class AllRehearsed(BaseException):
    """Everything that can be rehearsed in place has been. What `migrate` does after its
    last step belongs after a commit. Not an `Exception`: nothing should swallow it."""


class StepsInPlace:
    """The observer and the carrier of steps that stand in one transaction."""

    def __init__(
        self, order: Order, held: Any, reporter: Reporter, transaction: Barred
    ) -> None:
        self._left = len(order.steps)
        self._held_to = held
        self._reporter = reporter
        self._transaction = transaction
        self._connection = connections[order.database]
        self._waiting = 0  # functions that wait for a commit

    def __getattr__(self, name: str) -> Any:
        return getattr(self._held_to, name)

    def step_starts(
        self, migration: Migration, state: ProjectState, *, backwards: bool
    ) -> None:
        """Stop before a step that wants no transaction: what comes after it would find
        the database otherwise than it is then."""
        if not self._connection.schema_editor(atomic=migration.atomic).atomic_migration:
            label = f"{migration.app_label}.{migration.name}"
            self._reporter.unrehearsed(
                "not_atomic",
                "It is not atomic, and cannot be carried out inside of a transaction: it "
                "was not rehearsed.",
                migration,
            )
            if self._left > 1:
                self._reporter.unrehearsed(
                    "after_not_atomic",
                    f"Nor were the {self._left - 1} that come after {label}: they would "
                    "not find what it does.",
                )
            raise AllRehearsed
        self._held_to.step_starts(migration, state, backwards=backwards)
        self._transaction.begin_step()

    def step_finished(self, migration: Migration, duration_ms: int) -> None:
        """Leave after the last one: no lock is held longer than it must be."""
        self._held_to.step_finished(migration, duration_ms)
        self._tell_what_waits(migration)
        self._left -= 1
        if not self._left:
            raise AllRehearsed

    def carry(
        self,
        executor: MigrationExecutor,
        method: Callable[..., Any],
        state: Any,
        migration: Migration,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Carry out a step once, and let happen what belongs to its end."""
        try:
            result = method(executor, state, migration, *args, **kwargs)
        except Exception as error:
            self._transaction.explain(error)
            raise
        self._transaction.end_step()
        return result

    def _tell_what_waits(self, migration: Migration) -> None:
        waiting = len(self._connection.run_on_commit)
        if new := waiting - self._waiting:
            self._reporter.unrehearsed(
                "on_commit",
                f"It gave on_commit {new} function{'' if new == 1 else 's'}: nothing was "
                "committed, and none of them ran.",
                migration,
            )
        self._waiting = waiting


@contextmanager
def carefully(order: Order, held: Any, reporter: Reporter) -> Iterator[tuple[Any, Carrier]]:
    """Give who observes and who carries out the steps of an order: gently; or, in a
    rehearsal in place, in one transaction that is rolled back with this block."""
    if order.in_place is None:
        with gentle(order.database, reporter) as carried:
            yield held, carried
        return
    with barred(order.database, order.in_place, reporter.denied) as transaction:
        steps = StepsInPlace(order, held, reporter, transaction)
        yield steps, steps.carry
