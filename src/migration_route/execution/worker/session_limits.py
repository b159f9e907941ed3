"""How gently does a statement ask for its locks?

In the chain of Django's execute wrappers, outside of everything that is observed: what
a `RunSQL` or a `RunPython` sends comes by here as well. A statement that others would
queue up behind is held back while a look shows who is in its way, and is then sent with
a short limit; what failed for that alone is tried again.
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

from migration_route.conf import route_settings
from migration_route.conf.types import DatabaseSettings
from migration_route.execution.worker.instrumentation import StepRunner, run_once
from migration_route.execution.worker.lock_retry import (
    BlockerMonitor,
    LockAttempts,
    LockWaitObserver,
)
from migration_route.execution.worker.reporter import only_reads
from migration_route.vendors import usable_wrappers, vendor_of
from migration_route.vendors.base import LockInspector, LockTimeoutClass, TableLockRequest
from migration_route.vendors.sql_statements import first_word

_OWN_LIMIT = re.compile(
    r"\bset\s+(?:local\s+|session\s+|@@session\.)?(?:innodb_)?lock_(?:wait_)?timeout\b",
    re.IGNORECASE,
)
# Sent as they are: a transaction that has failed takes nothing else before its ROLLBACK.
_WAITS_FOR_NOBODY = frozenset({"savepoint", "release", "rollback"})
_ENDS_TRANSACTION = frozenset({"commit", "end", "abort"})


@contextmanager
def lock_retry(database: str, teller: LockWaitObserver) -> Iterator[StepRunner]:
    """Give what carries out the steps of a run gently; as Django does, on a database
    that lets its one writer wait by itself."""
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
    """Carries out one step after the other, each as often as its means allow."""

    def __init__(
        self,
        contention: LockInspector,
        watch: BlockerMonitor,
        *,
        means: DatabaseSettings,
        teller: LockWaitObserver,
    ) -> None:
        self._contention = contention
        self._watch = watch
        self._means = means
        self._teller = teller

    def __call__(
        self,
        executor: MigrationExecutor,
        method: Callable[..., Any],
        state: Any,
        migration: Migration,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Carry out a step; again, with the state that it began with, where the database
        has undone it as a whole because others were in the way."""
        connection = executor.connection
        editor = connection.schema_editor(atomic=migration.atomic)  # not entered
        rolls_back = editor.atomic_migration
        pristine = state.clone() if rolls_back else state
        callback = executor.progress_callback
        attempts = LockAttempts(self._means, self._teller)
        limits = StatementTimeouts(self._contention, self._watch, attempts)
        try:
            with limits.around(connection):
                while True:
                    try:
                        return method(executor, state, migration, *args, **kwargs)
                    except Exception as error:
                        if not (rolls_back and limits.may_repeat(error, connection)):
                            raise
                        attempts.pause(error)
                    limits.await_free(connection, ())
                    state = pristine.clone()
                    # "Applying …" was said.
                    executor.progress_callback = _without_start(callback)
        finally:
            executor.progress_callback = callback


def _without_start(callback: Any) -> Any:
    def said_before(action: str, *args: Any, **kwargs: Any) -> None:
        if callback and action not in {"apply_start", "unapply_start"}:
            callback(action, *args, **kwargs)

    return said_before


class StatementTimeouts:
    """The limits of the statements of one step."""

    def __init__(
        self, contention: LockInspector, watch: BlockerMonitor, attempts: LockAttempts
    ) -> None:
        self._contention = contention
        self._watch = watch
        self._attempts = attempts
        self._transaction: Any = None  # Django's outermost block; None outside of any
        self._sent: tuple[float | None] | None = None  # the limit, where it is known
        self._dirty = False  # this transaction has written something
        self._holds = False  # it holds locks that keep others waiting
        self._undone = False  # it failed for others in the way, and goes as a whole
        self._lasting = False  # the step has done something that no rollback undoes
        self._is_their_own = False  # the migration sets its limit itself

    @contextmanager
    def around(self, connection: BaseDatabaseWrapper) -> Iterator[None]:
        """Limit every statement that is sent through the connection in this block."""
        with ExitStack() as elsewhere:
            for other in usable_wrappers():
                if other is not connection:
                    elsewhere.enter_context(other.execute_wrapper(self._elsewhere))
            # The outermost wrapper: each attempt is seen by those within.
            connection.execute_wrappers.insert(0, self._gently)
            try:
                yield
            finally:
                connection.execute_wrappers.remove(self._gently)

    def may_repeat(self, error: Exception, connection: BaseDatabaseWrapper) -> bool:
        """Tell whether a step that failed so left nothing behind, and may begin again."""
        return (
            self._undone
            and not self._lasting
            and not connection.in_atomic_block
            and self._contention.is_contention(error)
        )

    def await_free(
        self, connection: BaseDatabaseWrapper, wanted: tuple[TableLockRequest, ...]
    ) -> float:
        """Wait until nobody is in the way of these locks, and of all that were named
        before; return the limit of the statement in seconds."""
        asked = self._attempts.about(wanted)
        while asked:
            blockers, more = self._watch.holds_back(
                connection, asked, older_than=self._attempts.lock_timeout
            )
            if not blockers:
                return self._attempts.limit + more
            self._attempts.held_back(asked, blockers)
        return self._attempts.limit

    def _elsewhere(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django calls it so
        context: Any,
    ) -> Any:
        """Notice what is written to another database: it would be written twice."""
        self._lasting = self._lasting or not only_reads(str(sql))
        return execute(sql, params, many, context)

    def _gently(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - Django calls it so
        context: Any,
    ) -> Any:
        connection: BaseDatabaseWrapper = context["connection"]
        text = str(sql)
        self._enter_transaction(connection)
        word = self._read_along(text)
        if connection.needs_rollback or self._is_their_own or word in _WAITS_FOR_NOBODY:
            return execute(sql, params, many, context)
        wish = self._contention.wish(text)
        wanted = self._contention.tables(connection, wish)
        while True:
            limit = self._limit_for(connection, wish.limit, wanted)
            self._send_limit(connection, limit)
            start = time.monotonic()
            try:
                result = execute(sql, params, many, context)
            except Exception as error:
                if not self._contention.is_contention(error):
                    raise
                stalled = 0.0 if limit is None else time.monotonic() - start
                self._fail(connection, wanted, stalled)
                if connection.in_atomic_block or not wish.may_repeat:
                    raise
                self._attempts.pause(error)
            else:
                self._succeed(connection, text, wanted)
                return result

    def _enter_transaction(self, connection: BaseDatabaseWrapper) -> None:
        """Forget what was known of another transaction: what it set may be undone."""
        block = connection.atomic_blocks[0] if connection.atomic_blocks else None
        if block is not self._transaction:
            self._transaction = block
            self._sent = None
            self._dirty = self._holds = self._undone = False

    def _read_along(self, text: str) -> str:
        """Take notice of what changes the rules; return the first word."""
        word = first_word(text)
        if word == "rollback":
            self._sent = None  # with the savepoint goes what was set behind it
        if word in _ENDS_TRANSACTION:
            self._lasting = True
        if "lock" in text and _OWN_LIMIT.search(text):
            self._is_their_own = True
        return word

    def _limit_for(
        self,
        connection: BaseDatabaseWrapper,
        limit: LockTimeoutClass,
        wanted: tuple[TableLockRequest, ...],
    ) -> float | None:
        """Return the seconds that the statement may wait, having looked before it is
        sent: from then on what the transaction holds would keep others waiting."""
        if limit is LockTimeoutClass.NONE:
            return self._attempts.limit if self._holds else None
        in_clean_air = not (connection.in_atomic_block and self._dirty)
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
        self._undone = connection.in_atomic_block
        blockers = self._watch.look(connection, self._attempts.about(wanted))
        self._attempts.failed(wanted, blockers, stalled=stalled)

    def _succeed(
        self,
        connection: BaseDatabaseWrapper,
        text: str,
        wanted: tuple[TableLockRequest, ...],
    ) -> None:
        if connection.in_atomic_block and not only_reads(text):
            self._dirty = True
            self._holds = self._holds or self._contention.blocks_others(wanted)
