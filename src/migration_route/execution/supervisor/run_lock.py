"""The locks of a database: a run waits until it is free, acquires its lock, and proves
again and again that it is still held. The session that holds a lock can be ended.

The lock belongs to its session, and a session can end: terminated by an administrator, by a
restart of the server, or by a firewall that dropped the connection. A lost lock is acquired
again.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from django.db import DatabaseError, connections
from django.db import Error as DatabaseFailure
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf import route_settings
from migration_route.conf.databases import (
    ANSWER_TIMEOUT,
    private_connection,
    require_session_connection,
)
from migration_route.core import clock
from migration_route.core.enums import Action, EventKind, RunState, WaitingReason
from migration_route.core.errors import (
    DatabaseUnavailable,
    InvalidState,
    PoolerDetected,
    StaleCode,
)
from migration_route.execution.posix_signals import ShutdownSignals
from migration_route.ledger import claims, runs
from migration_route.ledger.claims import renew_claim, require_claim
from migration_route.ledger.queries import find_run
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.step_evidence import StepError
from migration_route.planning import sources
from migration_route.vendors import vendor_of
from migration_route.vendors.base import (
    LockSlot,
    Session,
    Sessions,
    StatementProgress,
    TargetLock,
)

_POLL = 0.1  # seconds between two attempts to acquire the lock


def acquire_or_reason(lock: TargetLock, worker_lock: TargetLock) -> WaitingReason | None:
    """Acquire the lock, or return why not: a run, or a session that a dead run left, is in
    the way."""
    if not lock.try_acquire():
        return WaitingReason.LOCK
    if not worker_lock.try_acquire():
        lock.release()
        return WaitingReason.ORPHANED_SESSION
    worker_lock.release()
    return None


@contextmanager
def try_lock(lock: TargetLock) -> Iterator[bool]:
    """Yield whether the lock was acquired, and release it after this block."""
    is_acquired = lock.try_acquire()
    try:
        yield is_acquired
    finally:
        if is_acquired:
            lock.release()


class RunLock:
    """The lock of the database of a run, on a connection of its own."""

    def __init__(self, run: RunRecord) -> None:
        self.run = run
        self._last_heartbeat = 0.0
        self._connection = private_connection(run.database, answer_timeout=ANSWER_TIMEOUT)
        vendor = vendor_of(run.database)
        self._lock = vendor.lock(self._connection, LockSlot.SUPERVISOR)
        self._worker_lock = vendor.lock(self._connection, LockSlot.WORKER)

    def make(self, *, worker_pid: int, signals: ShutdownSignals) -> bool:
        """Wait for the lock and make the run `running`; return whether this process carries
        it out. False if it was cancelled meanwhile, waited too long, its process received a
        signal, or another process claimed it. `run` is the run as it is then."""
        columns = {"host": socket.gethostname(), "supervisor_pid": os.getpid()}
        try:
            require_session_connection(self.run.database)
        except PoolerDetected as error:
            self._refuse(error, columns)
            return False
        columns["build"] = sources.build()
        if self.run.approval_requirement is not None and sources.is_other_build(
            self.run.build
        ):
            self._end_stale(columns)
            return False
        recorded_reason = None
        deadline = time.monotonic() + route_settings().run_lock_timeout.total_seconds()
        while True:
            if signals.name:
                self._end_on_signal(signals.name)
                return False
            reason = acquire_or_reason(self._lock, self._worker_lock)
            try:
                if reason is None:
                    columns |= {"started_at": clock.now(), "worker_pid": worker_pid}
                    change = runs.Change(columns=columns, entry_facts={"began": True})
                    self._move(RunState.RUNNING, change)
                    return True
                if reason is not recorded_reason:
                    change = runs.Change(columns=columns, waiting_reason=reason)
                    self._move(RunState.WAITING, change)
                    recorded_reason = reason
            except InvalidState:
                self._end_not_started(reason)
                return False
            if self._is_cancelled() or time.monotonic() > deadline:
                self._end_not_started(reason)
                return False
            time.sleep(_POLL)  # a session lock is polled, never waited for

    def _is_cancelled(self) -> bool:
        """Send a heartbeat when one is due, and return whether the run was cancelled.

        Uses the supervisor's own connection to the ledger; one that fails is renewed at the
        next poll. Raises `ClaimLost`.
        """
        alias = route_settings().ledger_database
        now = time.monotonic()
        try:
            if (
                now - self._last_heartbeat
                > route_settings().heartbeat_timeout.total_seconds() / 3
            ):
                renew_claim(self.run.id, self.run.claimed_by)
                self._last_heartbeat = now
            else:
                require_claim(self.run.id, self.run.claimed_by)
            return find_run(self.run.id).state is RunState.CANCELLING
        except (DatabaseFailure, DatabaseUnavailable):
            connections[alias].close_if_unusable_or_obsolete()
            return False

    def _move(self, to: RunState, change: runs.Change) -> None:
        """Move the run from the state that this process knows."""
        ours = replace(change, claim=self.run.claimed_by)
        self.run = runs.move(self.run.id, to=to, expected={self.run.state}, change=ours)

    def _end(self, to: RunState, change: runs.Change) -> None:
        try:
            self._move(to, change)
        except InvalidState:
            self._end_not_started(None)  # it was cancelled just now

    def _end_on_signal(self, signal: str) -> None:
        """End a run whose process received a signal before the run started; release one
        that waited for its scheduled start."""
        if self.run.waits_to_begin:
            claims.release_claim(self.run.id, self.run.claimed_by)
            self.run = find_run(self.run.id)
            return
        error = StepError(
            type="Interrupted",
            message=f"The supervisor received {signal} before the run started.",
        )
        self._end(RunState.FAILED, runs.Change(outcome="interrupted", error=error))

    def _end_not_started(self, reason: WaitingReason | None) -> None:
        """End a run that did not get the lock: it was cancelled, or waited too long."""
        self.run = find_run(self.run.id)
        if self.run.state is RunState.CANCELLING:
            self._move(RunState.CANCELLED, runs.Change(outcome="cancelled"))
        elif self.run.state is RunState.WAITING:
            error = StepError(
                type="LockNotAvailable",
                message=f"The database {self.run.database!r} stayed locked by another run, "
                "a manual migrate, or a session left by an earlier run. Retry later.",
            )
            change = runs.Change(outcome=str(reason or "lock"), error=error)
            self._move(RunState.FAILED, change)

    def _end_stale(self, columns: dict[str, Any]) -> None:
        """End a run that was approved for another build: its approvals are void."""
        why = StepError(
            type="StaleCode",
            message=f"This run was approved for build {self.run.build}, but this process "
            f"runs build {columns['build']}: its approvals are void. Request the plan "
            "again.",
        )
        change = runs.Change(outcome=StaleCode.code, error=why, columns=columns)
        self._end(RunState.STALE, change)

    def _refuse(self, error: PoolerDetected, columns: dict[str, Any]) -> None:
        """End a run whose connection cannot keep a lock."""
        why = StepError(type="PoolerDetected", message=str(error))
        change = runs.Change(outcome=error.code, error=why, columns=columns)
        with suppress(InvalidState):  # it was cancelled meanwhile
            self._move(RunState.FAILED, change)
        self.run = find_run(self.run.id)

    def is_held(self) -> bool:
        return self._lock.is_held()

    def take_again(self) -> bool:
        """Acquire a lost lock on a new session, without waiting for it.

        Meanwhile the lock of the worker, where it has a session, has kept other runs out.
        """
        try:
            if vendor_of(self.run.database).lock_is_of_session:
                self._connection.close()
            else:
                self._lock.release()
            return self._lock.try_acquire()
        except (DatabaseError, OSError):
            return False

    def release(self) -> bool:
        """Release the lock; False if it was no longer held.

        A worker that was killed leaves its lock file beside an SQLite database: acquiring
        and releasing that lock removes the file.
        """
        try:
            if self._worker_lock.try_acquire():
                self._worker_lock.release()
            return self._lock.release()
        except DatabaseError:
            return False  # its session has ended, and the lock with it

    def close(self) -> None:
        """Close the connection, and with it every lock it holds."""
        self._connection.close()


_PATIENCE = 5.0  # seconds that a step waits at its gate for a lost lock
_PAUSE = 0.05
_LOST = "The database lock was lost because its session ended."
_ACQUIRED_AGAIN = "The database lock was acquired again."
LOCK_LOST = StepError(
    type="LockLost",
    message="The database lock was lost and could not be acquired again, so no further "
    "step was started.",
)


class LockKeeper:
    """Keeps the lock of one run while its worker runs.

    A lost lock is acquired again only for a run that this process still owns: the check
    raises `ClaimLost` otherwise.
    """

    def __init__(self, run_lock: RunLock, run_log: RunLog, *, every: float) -> None:
        """Prove the lock every `every` seconds."""
        self._run_lock = run_lock
        self._run_log = run_log
        self._every = every
        self._proved = time.monotonic()
        self._lost = False

    def look(self) -> None:
        """Prove the lock when that is due, and try to acquire a lost one again."""
        if self._lost or time.monotonic() - self._proved > self._every:
            self._prove()

    def is_sure(self) -> bool:
        """Return whether a step may start: the lock is held, or was acquired again within a
        few seconds."""
        # Another process may hold it for a moment while it checks.
        return clock.wait_until(self._prove, within=_PATIENCE, pause=_PAUSE)

    def holds_claim(self) -> bool:
        """Return whether the ledger confirms the claim; False if it does not answer."""
        run = self._run_lock.run
        try:
            require_claim(run.id, run.claimed_by)
        except DatabaseFailure:
            connections[route_settings().ledger_database].close_if_unusable_or_obsolete()
            return False
        return True

    def give_back(self) -> None:
        """Release the lock; record it if the lock was no longer held."""
        if not self._run_lock.release() and not self._lost:
            self._record(_LOST, when="at the end", taken_again=False)

    def _prove(self) -> bool:
        self._proved = time.monotonic()
        if not self._lost and self._run_lock.is_held():
            return True
        if not self._lost:
            self._lost = True
            self._record(_LOST, when="during the run", taken_again=False)
        if self.holds_claim() and self._run_lock.take_again():
            # A process that concludes a run holds this lock: the row cannot change while it
            # is held here.
            if not self.holds_claim():
                return False
            self._lost = False
            self._record(_ACQUIRED_AGAIN, when="during the run", taken_again=True)
            return True
        return False

    def _record(self, text: str, *, when: str, taken_again: bool) -> None:
        facts = {"when": when, "taken_again": taken_again}
        self._run_log.event(EventKind.LOCK_LOST, text=text, facts=facts)
        self._run_log.entry(Action.LOCK_LOST, facts)


_RETRY = 1.0  # seconds before a session that has not ended is terminated again


class LockHolder:
    """The session that holds one of the two locks of a database.

    It is inspected and terminated through a separate connection, opened when needed. Every
    method raises `django.db.Error` if the database does not answer, and may be called again
    then.
    """

    def __init__(self, database: str, slot: LockSlot = LockSlot.WORKER) -> None:
        self._database = database
        self._slot = slot
        self._connection: BaseDatabaseWrapper | None = None

    def pid(self) -> int | None:
        """Return the pid of the session; None if there is none."""
        try:
            return self._lock().holder()
        except DatabaseFailure:
            self.close()
            raise

    def describe(self) -> Session | None:
        """Return the session; None if there is none."""
        pid = self.pid()
        return None if pid is None else self._sessions().describe(pid)

    def statement_progress(self) -> StatementProgress | None:
        """Return how far the current statement of the session is; None if unknown."""
        pid = self.pid()
        return None if pid is None else self._sessions().progress(pid)

    def cancel_statement(self) -> None:
        """Cancel the current statement of the session, if it executes one."""
        found = self.describe()
        if found is not None and found.is_busy:
            self._sessions().cancel_statement(found.pid)

    def end(self, *, within: float) -> bool:
        """Terminate the session; return whether it has ended within so many seconds."""
        deadline = time.monotonic() + within
        while (pid := self.pid()) is not None:
            self._sessions().end(pid)
            left = deadline - time.monotonic()
            if self.is_gone(within=min(_RETRY, left)):
                return True
            if time.monotonic() > deadline:
                return False
        return True

    def is_gone(self, *, within: float) -> bool:
        """Return whether it ends by itself within so many seconds."""
        return clock.wait_until(lambda: self.pid() is None, within=within, pause=_PAUSE)

    def _opened(self) -> BaseDatabaseWrapper:
        if self._connection is None:
            self._connection = private_connection(
                self._database, answer_timeout=ANSWER_TIMEOUT
            )
        return self._connection

    def _lock(self) -> TargetLock:
        return vendor_of(self._database).lock(self._opened(), self._slot)

    def _sessions(self) -> Sessions:
        return vendor_of(self._database).sessions(self._opened())

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
