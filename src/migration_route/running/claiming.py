"""Whose turn is it? A run waits until its database is free, takes it, and begins."""

from __future__ import annotations

import os
import socket
import time

from migration_route import clock
from migration_route.conf import route_settings
from migration_route.connecting import new_connection
from migration_route.errors import NotInThisState
from migration_route.ledger import runs
from migration_route.ledger.reading import find_run
from migration_route.ledger.records import RunRecord, StepError
from migration_route.vendors import vendor_of
from migration_route.vendors.interface import Slot
from migration_route.vocabulary import RunState, WaitingReason

_POLL = 0.1  # seconds between two looks at a lock that is taken


class Claim:
    """The lock of a run's database, on a connection of its own."""

    def __init__(self, run: RunRecord) -> None:
        self.run = run
        self._connection = new_connection(run.database)
        vendor = vendor_of(run.database)
        self._lock = vendor.lock(self._connection, Slot.SUPERVISOR)
        self._worker_lock = vendor.lock(self._connection, Slot.WORKER)

    def make(self, *, worker_pid: int) -> bool:
        """Wait for the lock and make the run `running`; return whether it is this
        process that carries it out: it may be cancelled meanwhile, wait too long, or
        have been claimed by another. `run` is the run as it is then."""
        columns = {"host": socket.gethostname(), "supervisor_pid": os.getpid()}
        state, shown = RunState.QUEUED, None
        deadline = time.monotonic() + route_settings().lock_wait.total_seconds()
        while True:
            reason = self._in_the_way()
            try:
                if reason is None:
                    columns |= {"started_at": clock.now(), "worker_pid": worker_pid}
                    self._move(RunState.RUNNING, state, runs.Change(columns=columns))
                    return True
                if reason is not shown:
                    change = runs.Change(columns=columns, waiting_reason=reason)
                    self._move(RunState.WAITING, state, change)
                    state, shown = RunState.WAITING, reason
            except NotInThisState:
                self._end_unbegun(reason)
                return False
            cancelled = find_run(self.run.id).state is RunState.CANCELLING
            if cancelled or time.monotonic() > deadline:
                self._end_unbegun(reason)
                return False
            runs.beat(self.run.id, while_in=state)
            time.sleep(_POLL)  # a session lock is polled, never waited for

    def _in_the_way(self) -> WaitingReason | None:
        """Take the lock, unless a run or a session that a dead run left is in the way."""
        if not self._lock.try_acquire():
            return WaitingReason.LOCK
        if not self._worker_lock.try_acquire():
            self._lock.release()
            return WaitingReason.ORPHAN_BACKEND
        self._worker_lock.release()
        return None

    def session_is_gone(self) -> bool:
        """Tell whether no session of the worker is at work in the database any more: a
        statement may outlive the process that sent it."""
        is_gone = self._worker_lock.try_acquire()
        if is_gone:
            self._worker_lock.release()
        return is_gone

    def _move(self, to: RunState, expected: RunState, change: runs.Change) -> None:
        self.run = runs.move(self.run.id, to=to, expected={expected}, change=change)

    def _end_unbegun(self, reason: WaitingReason | None) -> None:
        """End a run whose turn has not come: it was cancelled, or waited too long."""
        self.run = find_run(self.run.id)
        if self.run.state is RunState.CANCELLING:
            change = runs.Change(outcome="cancelled")
            self._move(RunState.CANCELLED, RunState.CANCELLING, change)
        elif self.run.state is RunState.WAITING:
            error = StepError(
                type="LockNotAvailable",
                message=f"The database {self.run.database!r} stayed locked by another run, "
                "or by a session that an earlier run left.",
            )
            change = runs.Change(outcome=str(reason or "lock"), error=error)
            self._move(RunState.FAILED, RunState.WAITING, change)

    def release(self) -> bool:
        """Give the lock back; False when it was not held any more."""
        return self._lock.release()

    def close(self) -> None:
        """End the connection, and with it whatever it holds."""
        self._connection.close()
