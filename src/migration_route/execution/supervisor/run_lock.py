"""Whose turn is it? A run waits until its database is free, takes it, and begins.

Is the lock of a run still held? Proved again and again, and renewed when it was lost.

A lock goes with its session, and a session can be ended: by an administrator, by a
restart of the server, by a firewall that has forgotten it.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from django.db import DatabaseError, connections
from django.db import Error as DatabaseFailure

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
from migration_route.ledger.evidence import StepError
from migration_route.ledger.fencing import renew_claim, require_claim
from migration_route.ledger.queries import find_run
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.planning import sources
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot, TargetLock

_POLL = 0.1  # seconds between two looks at a lock that is taken


def acquire_or_reason(lock: TargetLock, worker_lock: TargetLock) -> WaitingReason | None:
    """Take the lock, unless a run or a session that a dead run left is in the way."""
    if not lock.try_acquire():
        return WaitingReason.LOCK
    if not worker_lock.try_acquire():
        lock.release()
        return WaitingReason.ORPHAN_BACKEND
    worker_lock.release()
    return None


class RunLock:
    """The lock of a run's database, on a connection of its own."""

    def __init__(self, run: RunRecord) -> None:
        self.run = run
        self._beaten = 0.0
        self._connection = private_connection(run.database, answer_timeout=ANSWER_TIMEOUT)
        vendor = vendor_of(run.database)
        self._lock = vendor.lock(self._connection, LockSlot.SUPERVISOR)
        self._worker_lock = vendor.lock(self._connection, LockSlot.WORKER)

    def make(self, *, worker_pid: int, signals: ShutdownSignals) -> bool:
        """Wait for the lock and make the run `running`; return whether it is this
        process that carries it out: it may be cancelled meanwhile, wait too long, be told
        to end by a signal, or have been claimed by another. `run` is the run then."""
        columns = {"host": socket.gethostname(), "supervisor_pid": os.getpid()}
        try:
            require_session_connection(self.run.database)
        except PoolerDetected as error:
            self._refuse(error, columns)
            return False
        columns["build"] = sources.build()
        if self.run.demand is not None and sources.is_other_build(self.run.build):
            self._end_stale(columns)
            return False
        state, shown = self.run.state, None
        deadline = time.monotonic() + route_settings().lock_wait.total_seconds()
        while True:
            if signals.name:
                self._end_told(signals.name, state)
                return False
            reason = acquire_or_reason(self._lock, self._worker_lock)
            try:
                if reason is None:
                    columns |= {"started_at": clock.now(), "worker_pid": worker_pid}
                    change = runs.Change(columns=columns, vouching={"began": True})
                    self._move(RunState.RUNNING, state, change)
                    return True
                if reason is not shown:
                    change = runs.Change(columns=columns, waiting_reason=reason)
                    self._move(RunState.WAITING, state, change)
                    state, shown = RunState.WAITING, reason
            except InvalidState:
                self._end_unbegun(reason)
                return False
            if self._is_cancelled() or time.monotonic() > deadline:
                self._end_unbegun(reason)
                return False
            time.sleep(_POLL)  # a session lock is polled, never waited for

    def _is_cancelled(self) -> bool:
        """Send a heartbeat when one is due, and look whether the run was cancelled.

        Uses the supervisor's own connection to the ledger; one that fails is renewed at
        the next poll. Raises `ClaimLost`.
        """
        alias = route_settings().ledger_database
        now = time.monotonic()
        try:
            if now - self._beaten > route_settings().lease.total_seconds() / 3:
                renew_claim(self.run.id, self.run.carrier)
                self._beaten = now
            else:
                require_claim(self.run.id, self.run.carrier)
            return find_run(self.run.id).state is RunState.CANCELLING
        except (DatabaseFailure, DatabaseUnavailable):
            connections[alias].close_if_unusable_or_obsolete()
            return False

    def _move(self, to: RunState, expected: RunState, change: runs.Change) -> None:
        ours = replace(change, claim=self.run.carrier)
        self.run = runs.move(self.run.id, to=to, expected={expected}, change=ours)

    def _end_told(self, signal: str, state: RunState) -> None:
        """End a run whose process is told to end before it has begun; one that waited for
        its opening is handed back."""
        if self.run.waits_to_begin:
            claims.release_claim(self.run.id, self.run.carrier)
            self.run = find_run(self.run.id)
            return
        error = StepError(
            type="Interrupted",
            message=f"The process of this run was told to end ({signal}) before it began.",
        )
        change = runs.Change(outcome="interrupted", error=error)
        try:
            self._move(RunState.FAILED, state, change)
        except InvalidState:
            self._end_unbegun(None)  # it was cancelled in this moment

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
                "by a typed migrate, or by a session that an earlier run left.",
            )
            change = runs.Change(outcome=str(reason or "lock"), error=error)
            self._move(RunState.FAILED, RunState.WAITING, change)

    def _end_stale(self, columns: dict[str, Any]) -> None:
        """End a run that was approved for another build: the approvals are void."""
        why = StepError(
            type="StaleCode",
            message=f"This run was approved for build {self.run.build}, and the code here "
            f"is build {columns['build']}: its approvals are void. Request the plan again.",
        )
        change = runs.Change(outcome=StaleCode.code, error=why, columns=columns)
        try:
            self._move(RunState.STALE, self.run.state, change)
        except InvalidState:
            self._end_unbegun(None)  # it was cancelled in this moment

    def _refuse(self, error: PoolerDetected, columns: dict[str, Any]) -> None:
        """End a run whose lock would not hold."""
        why = StepError(type="PoolerDetected", message=str(error))
        change = runs.Change(outcome=error.code, error=why, columns=columns)
        with suppress(InvalidState):  # it was cancelled meanwhile
            self._move(RunState.FAILED, self.run.state, change)
        self.run = find_run(self.run.id)

    def is_held(self) -> bool:
        """Prove that the lock is still ours."""
        return self._lock.is_held()

    def take_again(self) -> bool:
        """Take a lock that was lost, on a new session; never wait for it.

        The worker's own lock has kept the door shut meanwhile, where it has a session.
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
        """Give the lock back; False when it was not held any more.

        A worker that was killed leaves the file of its own lock beside an SQLite
        database: taking that lock and giving it back clears it away.
        """
        try:
            if self._worker_lock.try_acquire():
                self._worker_lock.release()
            return self._lock.release()
        except DatabaseError:
            return False  # its session has ended, and the lock with it

    def close(self) -> None:
        """End the connection, and with it whatever it holds."""
        self._connection.close()


_PATIENCE = 5.0  # seconds that a step waits at its gate for a lost lock
_PAUSE = 0.05
_LOST = "The lock of this database was lost: its session has ended."
_TAKEN_AGAIN = "The lock was taken again."
LOCK_LOST = StepError(
    type="LockLost",
    message="The lock of this database was lost and could not be taken again: "
    "no further step was begun.",
)


class LockKeeper:
    """Watches over the lock of one run while its worker is at work.

    A lock that was lost is taken again only for a run that is still this process's: what
    proves the lock here raises `ClaimLost` where it is not.
    """

    def __init__(self, claim: RunLock, journal: RunLog, *, every: float) -> None:
        """Prove the lock every so many seconds."""
        self._claim = claim
        self._journal = journal
        self._every = every
        self._proved = time.monotonic()
        self._lost = False

    def look(self) -> None:
        """Prove the lock when it is time to, and try to take a lost one again."""
        if self._lost or time.monotonic() - self._proved > self._every:
            self._prove()

    def is_sure(self) -> bool:
        """Tell whether a step may begin: the lock is held, or taken again in a moment."""
        deadline = time.monotonic() + _PATIENCE
        while not self._prove():
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE)  # another process tries it for a moment, and gives it back
        return True

    def holds_claim(self) -> bool:
        """Return whether the ledger confirms the claim; False when it does not answer."""
        run = self._claim.run
        try:
            require_claim(run.id, run.carrier)
        except DatabaseFailure:
            connections[route_settings().ledger_database].close_if_unusable_or_obsolete()
            return False
        return True

    def give_back(self) -> None:
        """Give the lock back, and say so on record when it was not held any more."""
        if not self._claim.release() and not self._lost:
            self._tell(_LOST, when="at the end", taken_again=False)

    def _prove(self) -> bool:
        self._proved = time.monotonic()
        if not self._lost and self._claim.is_held():
            return True
        if not self._lost:
            self._lost = True
            self._tell(_LOST, when="during the run", taken_again=False)
        if self.holds_claim() and self._claim.take_again():
            # Whoever concludes a run holds this lock while doing so: what the row says now
            # stays so while the lock is held.
            if not self.holds_claim():
                return False
            self._lost = False
            self._tell(_TAKEN_AGAIN, when="during the run", taken_again=True)
            return True
        return False

    def _tell(self, text: str, *, when: str, taken_again: bool) -> None:
        facts = {"when": when, "taken_again": taken_again}
        self._journal.event(EventKind.LOCK_LOST, text=text, facts=facts)
        self._journal.entry(Action.LOCK_LOST, facts)
