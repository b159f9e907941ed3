"""How are the steps of an order carried out: to stay, or to leave no trace?

What keeps a rehearsal in place from leaving its one transaction, and its bounds?

Three times over: what would end the transaction is refused before it is sent, through
Django's cursors and through the driver's; no other connection is made; and where something
slips past all of that, the server itself refuses to commit (`vendors.in_place`).
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

from migration_route.core.error_texts import message_of
from migration_route.execution.messages import InPlaceLimits, WorkOrder
from migration_route.execution.worker.instrumentation import StepRunner
from migration_route.execution.worker.reporter import Reporter
from migration_route.execution.worker.session_limits import lock_retry
from migration_route.vendors import copies_of, in_place_of
from migration_route.vendors.base_in_place import InPlaceFailure, InPlaceSupport
from migration_route.vendors.sql_statements import first_word

_NO_MAIL = "django.core.mail.backends.dummy.EmailBackend"
_PREPARATION = 60.0  # seconds until the first step: nothing is locked there
_FRESH = 0.1  # seconds for which limits that were sent are good enough
# A transaction that has failed takes nothing else before its ROLLBACK.
_ROLLS_BACK = frozenset({"savepoint", "release", "rollback"})
_BEHIND = "the transaction of the rehearsal was ended behind its back"
_MAY_SET = re.compile(r"timeout|set_config", re.IGNORECASE)


class TransactionEscape(BaseException):
    """A migration wanted to end the transaction of its rehearsal, or to do what no
    rollback takes back. Not an `Exception`: nothing that a project wraps around its
    migrations should swallow it."""


class InPlaceTimeout(BaseException):
    """A rehearsal in place has held its locks for as long as it may."""


class LockUnavailable(BaseException):
    """Others held a lock that was needed: a rehearsal in place does not wait for them."""


class ConnectionRefused(DatabaseError):
    """A migration wanted to connect to a database while it was rehearsed in place."""


class UncommittableTransaction:
    """The one transaction of a rehearsal in place."""

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        in_place: InPlaceSupport,
        bounds: InPlaceLimits,
    ) -> None:
        self._connection = connection
        self._in_place = in_place
        self._bounds = bounds
        self._deadline = time.monotonic() + _PREPARATION
        self._has_begun = False
        self._sent = 0.0  # when limits were sent last
        self._refused: BaseException | None = None
        self.is_open = True  # False: it may be rolled back now

    def begin_step(self) -> None:
        """Let the clock of the bounds run from the first step on."""
        if not self._has_begun:
            self._has_begun = True
            self._deadline = time.monotonic() + self._bounds.limit
            self._sent = 0.0

    def end_step(self) -> None:
        """Let happen what a commit would do at the end of a step, and make sure that the
        transaction is still the one that it was."""
        self._raise_again()
        self._send_bounds()
        if not self._in_place.is_barred(self._connection):
            raise self._refuse(_BEHIND)
        self._in_place.settle(self._connection)

    def explain(self, error: Exception) -> None:
        """Raise what a step has really failed for, where that came before `error`."""
        self._raise_again()
        if self._connection.closed_in_transaction:
            raise self._refuse("its session was closed, and the transaction with it")
        try:
            is_barred = self._in_place.is_barred(self._connection)
        except DatabaseError:
            return  # the transaction has failed, or the session is gone: `error` tells
        if not is_barred:
            raise self._refuse(_BEHIND) from error

    def look(self, query: Any) -> None:
        """Refuse what must not be sent; the driver asks as well. Raises `NeverCommitted`,
        and again for whatever comes after it."""
        if not self.is_open:
            return
        self._raise_again()
        text = self._in_place.text_of(self._connection, query)
        if why := self._in_place.leaves(self._connection, text):
            raise self._refuse(why)

    def _raise_again(self) -> None:
        """Let nobody who has swallowed it go on."""
        if self._refused is not None:
            raise self._refused

    def _refuse(self, why: str) -> TransactionEscape:
        found = TransactionEscape(
            f"This cannot be rehearsed in place: {why}. It was stopped, and everything "
            "before it is rolled back."
        )
        self._refused = found
        return found

    def limited(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django calls it so
        context: Any,
    ) -> Any:
        """Send a statement within the bounds, as the outermost of Django's wrappers."""
        self.look(sql)
        word = first_word(str(sql))
        if word not in _ROLLS_BACK and not self._connection.needs_rollback:
            self._send_bounds()
        if word in {"rollback", "reset", "do"} or _MAY_SET.search(str(sql)):
            self._sent = 0.0  # limits may be other ones after it
        try:
            return execute(sql, params, many, context)
        except DatabaseError as error:
            why = self._why(error, word)
            if why is None:
                raise
            self._refused = why
            raise why from error

    def _why(self, error: DatabaseError, word: str) -> BaseException | None:
        """Return what a statement with this first word has really failed for; None: for
        what the database says."""
        match self._in_place.trouble(error):
            case InPlaceFailure.OUT_OF_TIME if self._left() < _FRESH:
                return self._out_of_time()
            case InPlaceFailure.NO_TRANSACTION if (
                word in _ROLLS_BACK
            ):  # sent by Django itself
                return self._refuse(_BEHIND)
            case InPlaceFailure.LOCK_TAKEN:
                return LockUnavailable(
                    "Others held a lock that was needed: "
                    f"{message_of(error).splitlines()[0]}. A rehearsal in place waits for "
                    f"{self._bounds.lock_timeout * 1000:g} ms, and does not try again."
                )
        return None

    def _send_bounds(self) -> None:
        """Raises `OutOfTime` where nothing is left."""
        now = time.monotonic()
        if self._left() <= 0:
            raise self._out_of_time()
        if now - self._sent > _FRESH:
            self._in_place.bound(
                self._connection,
                lock_seconds=self._bounds.lock_timeout,
                seconds=self._left(),
            )
            self._sent = now

    def _left(self) -> float:
        return self._deadline - time.monotonic()

    def _out_of_time(self) -> InPlaceTimeout:
        found = InPlaceTimeout(
            timeout_message(self._bounds.limit if self._has_begun else None)
        )
        self._refused = found
        return found


def timeout_message(limit: float | None) -> str:
    """Say that it took too long; None: before the first step."""
    if limit is None:
        return (
            f"It did not come to its first step within {_PREPARATION:g} s: it was rolled "
            "back."
        )
    return (
        f"Its locks were held for {limit:g} s, which is the limit of a rehearsal in place: "
        'it was rolled back. MIGRATION_ROUTE["DATABASES"][…]["in_place_limit"] sets '
        "another one; a copy needs none."
    )


@contextmanager
def uncommittable_transaction(
    database: str, bounds: InPlaceLimits, denied: Callable[[str], None]
) -> Iterator[UncommittableTransaction]:
    """Stand in a transaction that is rolled back at the end of this block, and let this
    process connect to nothing else from now on. Mails are dropped."""
    connection, in_place = connections[database], in_place_of(database)
    connection.ensure_connection()
    in_place.prepare(connection)
    for other in connections.all(initialized_only=True):
        if other is not connection:
            other.close()
    with transaction.atomic(using=database):
        in_place.bar(connection)
        found = UncommittableTransaction(connection, in_place, bounds)
        settings.EMAIL_BACKEND = _NO_MAIL  # a mail would reach people
        _deny_connections(found, database, denied)
        in_place.watch_driver(found.look)
        connection.execute_wrappers.insert(0, found.limited)
        try:
            yield found
        finally:
            found.is_open = False
            connection.execute_wrappers.remove(found.limited)
        transaction.set_rollback(True, using=database)


def _deny_connections(
    barred_in: UncommittableTransaction, database: str, denied: Callable[[str], None]
) -> None:
    """Let nothing be opened any more: what is written elsewhere would stay."""

    def tell(what: str) -> None:
        if barred_in.is_open:  # else it is Django's own, after the end of the session
            denied(what)

    def connect(self: BaseDatabaseWrapper) -> None:
        tell(f"a connection to {self.alias!r}")
        raise ConnectionRefused(
            "A rehearsal in place has one connection, and opens no other: "
            f"{self.alias!r} was asked for."
        )

    def look(name: str) -> None:
        tell(f"a connection to {name!r}, past Django")
        raise ConnectionRefused(
            f"A rehearsal in place has one connection: {name!r} was asked for, past Django."
        )

    BaseDatabaseWrapper.connect = connect  # type: ignore[method-assign]
    copies_of(database).watch_drivers(look)


class InPlaceComplete(BaseException):
    """Everything that can be rehearsed in place has been. What `migrate` does after its
    last step belongs after a commit. Not an `Exception`: nothing should swallow it."""


class InPlaceSteps:
    """The observer and the carrier of steps that stand in one transaction."""

    def __init__(
        self,
        order: WorkOrder,
        held: Any,
        reporter: Reporter,
        transaction: UncommittableTransaction,
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
            raise InPlaceComplete
        self._held_to.step_starts(migration, state, backwards=backwards)
        self._transaction.begin_step()

    def step_finished(self, migration: Migration, duration_ms: int) -> None:
        """Leave after the last one: no lock is held longer than it must be."""
        self._held_to.step_finished(migration, duration_ms)
        self._tell_what_waits(migration)
        self._left -= 1
        if not self._left:
            raise InPlaceComplete

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
def step_runner(
    order: WorkOrder, held: Any, reporter: Reporter
) -> Iterator[tuple[Any, StepRunner]]:
    """Give who observes and who carries out the steps of an order: gently; or, in a
    rehearsal in place, in one transaction that is rolled back with this block."""
    if order.in_place is None:
        with lock_retry(order.database, reporter) as carried:
            yield held, carried
        return
    with uncommittable_transaction(
        order.database, order.in_place, reporter.denied
    ) as transaction:
        steps = InPlaceSteps(order, held, reporter, transaction)
        yield steps, steps.carry
