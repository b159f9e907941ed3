"""Carries out the steps of an order: with retries, or, in a rehearsal in place, in one
transaction that is always rolled back.

Three protections keep a rehearsal in its transaction: statements that would end it are
refused before they are sent, through Django's cursors and through the driver's; no other
connection can be opened; and if a statement slips past, the server itself refuses to commit
(`vendors.base_rehearsal`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState

from migration_route.core.redaction import message_of
from migration_route.execution.messages import InPlaceLimits, WorkOrder
from migration_route.execution.worker.instrumentation import (
    MigrationObserver,
    Send,
    StepRunner,
    outermost_wrapper,
    statement_wrapper,
)
from migration_route.execution.worker.reporter import Reporter
from migration_route.execution.worker.session_limits import lock_retry
from migration_route.vendors import copies_of, in_place_of
from migration_route.vendors.base_rehearsal import InPlaceFailure, InPlaceSupport
from migration_route.vendors.sql_statements import first_word

_NO_MAIL = "django.core.mail.backends.dummy.EmailBackend"
_PREPARATION = 60.0  # seconds until the first step: nothing is locked before it
_FRESH = 0.1  # seconds for which sent limits stay valid
# A failed transaction accepts nothing else before its ROLLBACK.
_ROLLS_BACK = frozenset({"savepoint", "release", "rollback"})
_ENDED_UNNOTICED = "something ended the transaction of the rehearsal"
_MAY_SET = re.compile(r"timeout|set_config", re.IGNORECASE)


class TransactionEscape(BaseException):
    """A migration tried to end the transaction of its rehearsal, or to do what no rollback
    undoes. Not an `Exception`: nothing that a project wraps around its migrations should
    swallow it."""


class InPlaceTimeout(BaseException):
    """A rehearsal in place has held its locks for the maximum time."""


class LockUnavailable(BaseException):
    """Another session held a required lock: a rehearsal in place does not wait for it."""


class ConnectionRefused(DatabaseError):
    """A migration tried to open a database connection during a rehearsal in place."""


class UncommittableTransaction:
    """The one transaction of a rehearsal in place."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        in_place: InPlaceSupport,
        limits: InPlaceLimits,
    ) -> None:
        self._connection = connection
        self._in_place = in_place
        self._limits = limits
        self._deadline = time.monotonic() + _PREPARATION
        self._has_begun = False
        self._sent = 0.0  # when limits were last sent
        self._refused: BaseException | None = None
        self.is_open = True  # False: it may be rolled back now

    def begin_step(self) -> None:
        """Start the time limit with the first step."""
        if not self._has_begun:
            self._has_begun = True
            self._deadline = time.monotonic() + self._limits.limit
            self._sent = 0.0

    def end_step(self) -> None:
        """Do what a commit would do at the end of a step, and verify that the transaction
        is still the same."""
        self._raise_again()
        self._send_limits()
        if not self._in_place.is_commit_prevented(self._connection):
            raise self._refuse(_ENDED_UNNOTICED)
        self._in_place.settle(self._connection)

    def explain(self, error: Exception) -> None:
        """Raise the real cause of a failed step, if it came before `error`."""
        self._raise_again()
        if self._connection.closed_in_transaction:
            raise self._refuse("its session was closed, and the transaction with it")
        try:
            is_commit_prevented = self._in_place.is_commit_prevented(self._connection)
        except DatabaseError:
            return  # the transaction failed or the session is gone: `error` is the cause
        if not is_commit_prevented:
            raise self._refuse(_ENDED_UNNOTICED) from error

    def look(self, query: Any) -> None:
        """Refuse what must not be sent; the driver calls this as well. Raises
        `TransactionEscape`, also for every later statement."""
        if not self.is_open:
            return
        self._raise_again()
        text = self._in_place.text_of(self._connection, query)
        if why := self._in_place.leaves(self._connection, text):
            raise self._refuse(why)

    def _raise_again(self) -> None:
        """Stop a migration that has swallowed the first refusal."""
        if self._refused is not None:
            raise self._refused

    def _refuse(self, why: str) -> TransactionEscape:
        found = TransactionEscape(
            f"This cannot be rehearsed in place: {why}. The rehearsal stopped, and "
            "everything is rolled back."
        )
        self._refused = found
        return found

    def limited(self, send: Send, sql: Any, context: Any) -> Any:
        """Send a statement within the limits, as the outermost of Django's wrappers."""
        del context
        self.look(sql)
        word = first_word(str(sql))
        if word not in _ROLLS_BACK and not self._connection.needs_rollback:
            self._send_limits()
        if word in {"rollback", "reset", "do"} or _MAY_SET.search(str(sql)):
            self._sent = 0.0  # it may change the limits
        try:
            return send()
        except DatabaseError as error:
            why = self._why(error, word)
            if why is None:
                raise
            self._refused = why
            raise why from error

    def _why(self, error: DatabaseError, word: str) -> BaseException | None:
        """Return the real cause of the failure of a statement with this first word; None:
        the error of the database."""
        match self._in_place.trouble(error):
            case InPlaceFailure.OUT_OF_TIME if self._left() < _FRESH:
                return self._out_of_time()
            # Django itself sent the statement.
            case InPlaceFailure.NO_TRANSACTION if word in _ROLLS_BACK:
                return self._refuse(_ENDED_UNNOTICED)
            case InPlaceFailure.LOCK_TAKEN:
                return LockUnavailable(
                    "Another session held a required lock: "
                    f"{message_of(error).splitlines()[0]}. A rehearsal in place waits "
                    f"{self._limits.lock_timeout * 1000:g} ms and does not retry."
                )
        return None

    def _send_limits(self) -> None:
        """Send the limits, unless they are fresh. Raises `InPlaceTimeout` if no time is
        left."""
        now = time.monotonic()
        if self._left() <= 0:
            raise self._out_of_time()
        if now - self._sent > _FRESH:
            self._in_place.bound(
                self._connection,
                lock_seconds=self._limits.lock_timeout,
                seconds=self._left(),
            )
            self._sent = now

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _out_of_time(self) -> InPlaceTimeout:
        found = InPlaceTimeout(
            timeout_message(self._limits.limit if self._has_begun else None)
        )
        self._refused = found
        return found


def timeout_message(limit: float | None) -> str:
    """Return the message of a timeout; `limit` is None before the first step."""
    if limit is None:
        return (
            f"The rehearsal did not reach its first step within {_PREPARATION:g} s and was "
            "rolled back."
        )
    return (
        f"The rehearsal held its locks for {limit:g} s, its limit, and was rolled back. "
        'Raise MIGRATION_ROUTE["DATABASES"][…]["in_place_timeout"], or rehearse on a copy, '
        "which needs no limit."
    )


@contextmanager
def uncommittable_transaction(
    database: str, limits: InPlaceLimits, denied: Callable[[str], None]
) -> Iterator[UncommittableTransaction]:
    """Open a transaction that is rolled back at the end of this block, and refuse every
    other connection of this process from now on. Emails are dropped."""
    connection, in_place = connections[database], in_place_of(database)
    connection.ensure_connection()
    in_place.prepare(connection)
    for other in connections.all(initialized_only=True):
        if other is not connection:
            other.close()
    with transaction.atomic(using=database):
        in_place.bar(connection)
        found = UncommittableTransaction(connection, in_place, limits)
        settings.EMAIL_BACKEND = _NO_MAIL  # real recipients
        _deny_connections(found, database, denied)
        in_place.watch_driver(found.look)
        try:
            with outermost_wrapper(connection, statement_wrapper(found.limited)):
                yield found
        finally:
            found.is_open = False
        transaction.set_rollback(True, using=database)


def _deny_connections(
    opened: UncommittableTransaction, database: str, denied: Callable[[str], None]
) -> None:
    """Refuse new connections: what is written elsewhere would persist."""

    def report(what: str) -> None:
        if opened.is_open:  # otherwise Django itself reconnects afterwards
            denied(what)

    def connect(self: BaseDatabaseWrapper) -> None:
        report(f"a connection to {self.alias!r}")
        raise ConnectionRefused(
            "A rehearsal in place has one connection and cannot open another one to "
            f"{self.alias!r}."
        )

    def look(name: str) -> None:
        report(f"a connection to {name!r}, bypassing Django")
        raise ConnectionRefused(
            "A rehearsal in place has one connection and cannot open another one to "
            f"{name!r}."
        )

    BaseDatabaseWrapper.connect = connect  # type: ignore[method-assign]
    copies_of(database).watch_drivers(look)


class InPlaceComplete(BaseException):
    """Everything that can be rehearsed in place is done. What `migrate` does after its last
    step requires a commit. Not an `Exception`: nothing should swallow it."""


class InPlaceSteps(MigrationObserver):
    """The observer and the runner of steps that share one transaction."""

    def __init__(
        self,
        order: WorkOrder,
        reporter: Reporter,
        transaction: UncommittableTransaction,
    ) -> None:
        self._left = len(order.steps)
        self._reporter = reporter
        self._transaction = transaction
        self._connection = connections[order.database]
        self._waiting = 0  # functions that wait for a commit

    def step_starts(
        self, migration: Migration, state: ProjectState, *, backwards: bool
    ) -> None:
        """Stop before a step that cannot run in a transaction: later steps would find a
        different database than in a real run."""
        del state, backwards
        if not self._connection.schema_editor(atomic=migration.atomic).atomic_migration:
            label = f"{migration.app_label}.{migration.name}"
            self._reporter.unrehearsed(
                "not_atomic",
                "It is not atomic and cannot run inside a transaction, so it was not "
                "rehearsed.",
                migration,
            )
            if self._left > 1:
                self._reporter.unrehearsed(
                    "after_not_atomic",
                    f"Steps after {label} that were not rehearsed, because they depend on "
                    f"it: {self._left - 1}.",
                )
            raise InPlaceComplete

    def step_finished(self, migration: Migration, duration_ms: int) -> None:
        """Stop after the last step, so that no lock is held longer than needed."""
        del duration_ms
        self._report_on_commit(migration)
        self._left -= 1
        if not self._left:
            raise InPlaceComplete

    def carry(
        self,
        executor: MigrationExecutor,
        migration: Migration,
        state: Any,
        run: Callable[[Any], Any],
    ) -> Any:
        """Run a step once, then what belongs to its end."""
        del executor, migration
        self._transaction.begin_step()
        try:
            result = run(state)
        except Exception as error:
            self._transaction.explain(error)
            raise
        self._transaction.end_step()
        return result

    def _report_on_commit(self, migration: Migration) -> None:
        waiting = len(self._connection.run_on_commit)
        if new := waiting - self._waiting:
            self._reporter.unrehearsed(
                "on_commit",
                f"It registered {new} function{'' if new == 1 else 's'} with on_commit. "
                "Nothing was committed, so none ran.",
                migration,
            )
        self._waiting = waiting


@contextmanager
def step_runner(
    order: WorkOrder, reporter: Reporter
) -> Iterator[tuple[list[MigrationObserver], StepRunner]]:
    """Yield the runner of the steps of an order and its observers: with retries; or, in a
    rehearsal in place, in one transaction that is rolled back with this block."""
    if order.in_place is None:
        with lock_retry(order.database, reporter) as runner:
            yield [], runner
        return
    with uncommittable_transaction(
        order.database, order.in_place, reporter.denied
    ) as transaction:
        steps = InPlaceSteps(order, reporter, transaction)
        yield [steps], steps.carry
