"""Limits how often and how long one step tries to get its locks.

Two budgets: while a statement of the step waits in the lock queue, other sessions wait
behind it, and that time counts against the blocking budget. While the step only polls, it
blocks no other session; that time counts against the lock retry timeout.

The blockers are read in a separate session: the migration's own would see other sessions as
they were when its transaction started.
"""

from __future__ import annotations

import random
import time
from dataclasses import asdict
from typing import Any, Protocol

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf import DatabaseSettings
from migration_route.conf.databases import private_connection
from migration_route.vendors.base import Blocker, LockInspector, TableLockRequest

# Seconds between two attempts that were sent: short ones first, while a gap between two
# transactions is likely; then long ones, so that queued sessions can continue.
_RETRY_DELAYS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0)
# Seconds between two polls, which block no other session.
_POLL_DELAYS = (0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.5, 2.0)
_JITTER = (0.7, 1.3)
_SLICE = 0.5  # seconds between two questions whether a waiting step is to stop
_SHOWN = 5  # blockers that an error names


class LockWaitObserver(Protocol):
    """Receives the attempts, and may stop them."""

    def lock_attempt(self, facts: dict[str, Any]) -> None:
        """Report a blocked attempt."""

    def lock_pause(self, facts: dict[str, Any]) -> None:
        """Ask whether to keep waiting; raises if not."""

    def lock_fired(self, duration_ms: int) -> None:
        """Report that a statement is sent which had to wait."""


class LockTimeout(BaseException):
    """The locks of a step were not available within its budgets. Not an `Exception`:
    nothing that a project wraps around its migrations should swallow it."""


class LockAttempts:
    """The attempts at one step: their cost so far, and the budgets that are left."""

    def __init__(self, means: DatabaseSettings, observer: LockWaitObserver) -> None:
        self._lock_timeout = means.lock_timeout.total_seconds()
        self._blocking_budget = means.blocking_budget.total_seconds()
        self._patience = means.lock_retry_timeout.total_seconds()
        self._observer = observer
        self._number = self._polls = self._retries = 0
        self._stalled = self._waited = 0.0
        self._last: dict[str, Any] = {}
        self._is_waiting = False
        self.named: tuple[TableLockRequest, ...] = ()  # the locks of earlier attempts

    @property
    def lock_timeout(self) -> float:
        """The seconds that a statement may usually wait in the queue."""
        return self._lock_timeout

    @property
    def limit(self) -> float:
        """The seconds that the next statement may wait in the queue."""
        return min(self._lock_timeout, max(self._blocking_budget - self._stalled, 0.001))

    def about(self, wanted: tuple[TableLockRequest, ...]) -> tuple[TableLockRequest, ...]:
        """Return these locks and those of all earlier attempts at the step."""
        return tuple(dict.fromkeys((*self.named, *wanted)))

    def held_back(
        self, wanted: tuple[TableLockRequest, ...], blockers: list[Blocker]
    ) -> None:
        """Wait, because blockers are visible.

        Raises `LockTimeout` when the lock retry timeout is exceeded.
        """
        self._note(wanted, blockers, fired=False)
        self._pause(_POLL_DELAYS[min(self._polls, len(_POLL_DELAYS) - 1)], None)
        self._polls += 1

    def failed(
        self,
        wanted: tuple[TableLockRequest, ...],
        blockers: list[Blocker],
        *,
        stalled: float,
    ) -> None:
        """Record an attempt that was sent and failed because of other sessions."""
        self._stalled += stalled
        self.named = self.about(wanted)
        self._note(self.named, blockers, fired=True)

    def pause(self, error: Exception) -> None:
        """Wait before the next attempt. Raises `LockTimeout` when a budget is exhausted."""
        if self._stalled >= self._blocking_budget:
            raise self._timeout("blocking budget exceeded") from error
        self._polls = 0
        self._pause(_RETRY_DELAYS[min(self._retries, len(_RETRY_DELAYS) - 1)], error)
        self._retries += 1

    def fires(self, limit: float) -> None:
        """Report that a statement is sent now, if the step has been waiting."""
        if self._is_waiting:
            self._is_waiting = False
            self._observer.lock_fired(round(limit * 1000))

    def _note(
        self, wanted: tuple[TableLockRequest, ...], blockers: list[Blocker], *, fired: bool
    ) -> None:
        self._number += 1
        self._last = {
            "attempt": self._number,
            "fired": fired,
            "tables": sorted({want.table for want in wanted}),
            "wanted": [[want.table, want.mode] for want in wanted],
            "blockers": [_blocker_facts(blocker) for blocker in blockers],
        }
        self._observer.lock_attempt(self._facts())

    def _facts(self) -> dict[str, Any]:
        return {
            **self._last,
            "blocking_ms": round(self._stalled * 1000),
            "waited_ms": round(self._waited * 1000),
        }

    def _pause(self, usual: float, error: Exception | None) -> None:
        """Wait about `usual` seconds, asking meanwhile whether to continue."""
        left = usual * random.uniform(*_JITTER)  # noqa: S311 - jitter
        self._is_waiting = True
        while True:
            self._observer.lock_pause(self._facts())
            if left <= 0:
                return
            if self._waited + self._stalled >= self._patience:
                raise self._timeout("lock retry timeout exceeded") from error
            start = time.monotonic()
            time.sleep(min(left, _SLICE))  # blockers are polled, never waited for
            self._waited += (took := time.monotonic() - start)
            left -= took

    def _timeout(self, why: str) -> LockTimeout:
        tables = ", ".join(self._last["tables"]) or "unknown tables"
        blockers = self._last["blockers"]
        names = "; ".join(map(_described, blockers[:_SHOWN])) or "no session was visible"
        return LockTimeout(
            f"No lock on {tables} after {self._number} "
            f"attempt{'' if self._number == 1 else 's'}: {why} (waited "
            f"{self._waited:.1f} s, blocked others for {self._stalled:.1f} s). "
            f"Blocked by: {names}."
        )


def _blocker_facts(blocker: Blocker) -> dict[str, Any]:
    kept = ("pid", "user", "application", "query", "since", "state", "begun", "certain")
    facts = asdict(blocker)
    return {key: facts[key] for key in kept}


def _described(blocker: dict[str, Any]) -> str:
    maybe = "" if blocker["certain"] else "perhaps "
    application = f", {blocker['application']}" if blocker["application"] else ""
    since = f", since {blocker['since']}" if blocker["since"] else ""
    state = f", {blocker['state']}" if blocker["state"] else ""
    query = " ".join(blocker["query"].split())[:120]
    return (
        f"{maybe}pid {blocker['pid']} (user {blocker['user'] or 'unknown'}"
        f"{application}{since}{state}): {query or 'query not visible'}"
    )


class BlockerMonitor:
    """Reads the blockers in one database; connects on first use."""

    def __init__(self, database: str, contention: LockInspector) -> None:
        # Not from `connections`: this session must have neither the settings nor the lock
        # of the worker.
        self._connection = private_connection(database)
        self._contention = contention
        self._observes: bool | None = None
        self._yield_time: float | None = None
        self._seen: dict[str, float] = {}  # transactions whose age is hidden

    def holds_back(
        self,
        session: BaseDatabaseWrapper,
        wanted: tuple[TableLockRequest, ...],
        *,
        older_than: float,
    ) -> tuple[list[Blocker], float]:
        """Return the sessions that would make a statement wait in vain, and how many
        seconds more than usual the statement needs for a vacuum to yield.

        A young transaction will end soon: a short wait in the queue is enough.
        """
        if not self._can_observe():
            return [], 0.0
        found = [
            blocker
            for blocker in self.look(session, wanted)
            if self._age(blocker) > older_than
        ]
        if found and all(blocker.yields for blocker in found):
            return [], self._time_to_yield()
        return [blocker for blocker in found if not blocker.yields], 0.0

    def look(
        self, session: BaseDatabaseWrapper, wanted: tuple[TableLockRequest, ...]
    ) -> list[Blocker]:
        """Return the holders of conflicting locks, except `session`, the migration's own.

        If they cannot be read, none is returned: the statement has its limit.
        """
        own = self._contention.session(session)
        try:
            found = self._contention.blockers_of(self._connection, wanted)
        except DatabaseError:
            self._connection.close()
            return []
        return [blocker for blocker in found if blocker.pid != own]

    def close(self) -> None:
        self._connection.close()

    def _can_observe(self) -> bool:
        if self._observes is None:
            try:
                self._observes = self._contention.observes(self._connection)
            except DatabaseError:
                self._connection.close()
                return False
        return self._observes

    def _age(self, blocker: Blocker) -> float:
        if blocker.since:
            return blocker.age
        now = time.monotonic()
        return now - self._seen.setdefault(blocker.key, now)

    def _time_to_yield(self) -> float:
        if self._yield_time is None:
            self._yield_time = self._contention.yield_time(self._connection)
        return self._yield_time
