"""Sends the statements of a step with short lock timeouts and retries them.

It is the outermost of Django's execute wrappers, so the statements of `RunSQL` and
`RunPython` pass it as well. A statement that other sessions would queue behind is delayed
while a blocker is visible, and then sent with a short limit; a statement or step that
failed only because of locks is retried.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor

from migration_route.conf import DatabaseSettings, route_settings
from migration_route.execution.worker.instrumentation import (
    Send,
    StepRunner,
    outermost_wrapper,
    run_once,
    statement_wrapper,
)
from migration_route.execution.worker.lock_retry import (
    BlockerMonitor,
    LockAttempts,
    LockWaitObserver,
)
from migration_route.vendors import usable_wrappers, vendor_of
from migration_route.vendors.base import LockInspector, LockTimeoutClass, TableLockRequest
from migration_route.vendors.sql_statements import first_word, only_reads

_OWN_LIMIT = re.compile(
    r"\bset\s+(?:local\s+|session\s+|@@session\.)?(?:innodb_)?lock_(?:wait_)?timeout\b",
    re.IGNORECASE,
)
# Sent unchanged: a failed transaction accepts nothing else before its ROLLBACK.
_NEVER_BLOCKED = frozenset({"savepoint", "release", "rollback"})
_ENDS_TRANSACTION = frozenset({"commit", "end", "abort"})


@contextmanager
def lock_retry(database: str, teller: LockWaitObserver) -> Iterator[StepRunner]:
    """Yield the runner of the steps of a run, with retries; Django's own behavior on a
    database that makes its single writer wait by itself."""
    contention = vendor_of(database).contention
    if contention is None:
        yield run_once
        return
    watch = BlockerMonitor(database, contention)
    try:
        yield LockRetryRunner(
            contention, watch, means=route_settings().database(database), teller=teller
        )
    finally:
        watch.close()


class LockRetryRunner:
    """Runs each step as often as its budgets allow."""

    def __init__(
        self,
        contention: LockInspector,
        watch: BlockerMonitor,
        *,
        means: DatabaseSettings,
        teller: LockWaitObserver,
    ) -> None:
        self._contention = contention
        self._monitor = watch
        self._means = means
        self._observer = teller

    def __call__(
        self,
        executor: MigrationExecutor,
        migration: Migration,
        state: Any,
        run: Callable[[Any], Any],
    ) -> Any:
        """Run a step; again, with the state that it started with, if the database rolled it
        back as a whole because of lock contention."""
        connection = executor.connection
        editor = connection.schema_editor(atomic=migration.atomic)  # not entered
        rolls_back = editor.atomic_migration
        pristine = state.clone() if rolls_back else state
        callback = executor.progress_callback
        attempts = LockAttempts(self._means, self._observer)
        limits = StatementTimeouts(self._contention, self._monitor, attempts)
        try:
            with limits.around(connection):
                while True:
                    try:
                        return run(state)
                    except Exception as error:
                        if not (rolls_back and limits.may_repeat(error, connection)):
                            raise
                        attempts.pause(error)
                    limits.await_free(connection, ())
                    state = pristine.clone()
                    # "Applying …" was already printed.
                    executor.progress_callback = _without_start_message(callback)
        finally:
            executor.progress_callback = callback


def _without_start_message(callback: Any) -> Any:
    def said_before(action: str, *args: Any, **kwargs: Any) -> None:
        if callback and action not in {"apply_start", "unapply_start"}:
            callback(action, *args, **kwargs)

    return said_before


class StatementTimeouts:
    """The lock timeouts of the statements of one step."""

    def __init__(
        self, contention: LockInspector, watch: BlockerMonitor, attempts: LockAttempts
    ) -> None:
        self._contention = contention
        self._monitor = watch
        self._attempts = attempts
        self._transaction: Any = None  # Django's outermost block; None outside of any
        self._sent: tuple[float | None] | None = None  # the limit, where it is known
        self._has_written = False  # this transaction has written something
        self._blocks_others = False  # it holds locks that block other sessions
        self._must_roll_back = False  # it failed because of locks and rolls back as a whole
        self._has_lasting_effects = False  # the step did something that no rollback undoes
        self._sets_own_limit = False  # the migration sets its own limit

    @contextmanager
    def around(self, connection: BaseDatabaseWrapper) -> Iterator[None]:
        """Limit every statement that is sent through the connection in this block."""
        noting = statement_wrapper(self._note_other_database)
        with ExitStack() as elsewhere:
            for other in usable_wrappers():
                if other is not connection:
                    elsewhere.enter_context(other.execute_wrapper(noting))
            # The outermost wrapper, so that the inner ones see each attempt.
            limiting = statement_wrapper(self._execute_limited)
            with outermost_wrapper(connection, limiting):
                yield

    def may_repeat(self, error: Exception, connection: BaseDatabaseWrapper) -> bool:
        """Return whether a step that failed with this error left nothing behind and may be
        repeated."""
        return (
            self._must_roll_back
            and not self._has_lasting_effects
            and not connection.in_atomic_block
            and self._contention.is_contention(error)
        )

    def await_free(
        self, connection: BaseDatabaseWrapper, wanted: tuple[TableLockRequest, ...]
    ) -> float:
        """Wait until no blocker of these and all earlier named locks is visible; return the
        limit of the statement in seconds."""
        asked = self._attempts.about(wanted)
        while asked:
            blockers, more = self._monitor.holds_back(
                connection, asked, older_than=self._attempts.lock_timeout
            )
            if not blockers:
                return self._attempts.limit + more
            self._attempts.held_back(asked, blockers)
        return self._attempts.limit

    def _note_other_database(self, send: Send, sql: Any, context: Any) -> Any:
        """Note a write to another database: a retry would repeat it."""
        del context
        self._has_lasting_effects = self._has_lasting_effects or not only_reads(str(sql))
        return send()

    def _execute_limited(self, send: Send, sql: Any, context: Any) -> Any:
        connection: BaseDatabaseWrapper = context["connection"]
        text = str(sql)
        self._enter_transaction(connection)
        word = self._read_along(text)
        if connection.needs_rollback or self._sets_own_limit or word in _NEVER_BLOCKED:
            return send()
        request = self._contention.lock_request(text)
        wanted = self._contention.tables(connection, request)
        while True:
            limit = self._limit_for(connection, request.limit, wanted)
            self._send_limit(connection, limit)
            start = time.monotonic()
            try:
                result = send()
            except Exception as error:
                if not self._contention.is_contention(error):
                    raise
                stalled = 0.0 if limit is None else time.monotonic() - start
                self._fail(connection, wanted, stalled)
                if connection.in_atomic_block or not request.may_repeat:
                    raise
                self._attempts.pause(error)
            else:
                self._succeed(connection, text, wanted)
                return result

    def _enter_transaction(self, connection: BaseDatabaseWrapper) -> None:
        """Forget what was known of an earlier transaction: what it set may be undone."""
        block = connection.atomic_blocks[0] if connection.atomic_blocks else None
        if block is not self._transaction:
            self._transaction = block
            self._sent = None
            self._has_written = self._blocks_others = self._must_roll_back = False

    def _read_along(self, text: str) -> str:
        """Note statements that change limits or transactions; return the first word."""
        word = first_word(text)
        if word == "rollback":
            self._sent = None  # what was set after the savepoint is undone
        if word in _ENDS_TRANSACTION:
            self._has_lasting_effects = True
        if "lock" in text and _OWN_LIMIT.search(text):
            self._sets_own_limit = True
        return word

    def _limit_for(
        self,
        connection: BaseDatabaseWrapper,
        limit: LockTimeoutClass,
        wanted: tuple[TableLockRequest, ...],
    ) -> float | None:
        """Return the seconds that the statement may wait. Blockers are checked before it is
        sent: from then on the locks of the transaction block other sessions."""
        if limit is LockTimeoutClass.NONE:
            return self._attempts.limit if self._blocks_others else None
        in_clean_air = not (connection.in_atomic_block and self._has_written)
        seconds = (
            self.await_free(connection, wanted) if in_clean_air else self._attempts.limit
        )
        self._attempts.fires(seconds)
        return seconds

    def _send_limit(self, connection: BaseDatabaseWrapper, seconds: float | None) -> None:
        if self._sent != (seconds,):
            self._contention.limit(connection, seconds)
            self._sent = (seconds,)

    def _fail(
        self,
        connection: BaseDatabaseWrapper,
        wanted: tuple[TableLockRequest, ...],
        stalled: float,
    ) -> None:
        self._must_roll_back = connection.in_atomic_block
        blockers = self._monitor.look(connection, self._attempts.about(wanted))
        self._attempts.failed(wanted, blockers, stalled=stalled)

    def _succeed(
        self,
        connection: BaseDatabaseWrapper,
        text: str,
        wanted: tuple[TableLockRequest, ...],
    ) -> None:
        if connection.in_atomic_block and not only_reads(text):
            self._has_written = True
            self._blocks_others = (
                self._blocks_others or self._contention.blocks_readers_or_writers(wanted)
            )
