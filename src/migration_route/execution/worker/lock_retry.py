"""How often, and for how long, may one step try to get its locks?

Two purses. While a statement of the step stands in the queue, others stand behind it:
that time comes out of the stall budget. While the step only looks and waits, nobody
does: that comes out of the patience.

Who is in the way right now? Asked past the migration, on a session of its own.

The migration's session would see the sessions of others as they were when its
transaction began.
"""

from __future__ import annotations

import random
import time
from dataclasses import asdict
from typing import Any, Protocol

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf.databases import private_connection
from migration_route.conf.types import DatabaseSettings
from migration_route.vendors.base import Blocker, LockInspector, TableLockRequest

# Seconds between two attempts that were sent: short ones first, while a gap between two
# transactions is likely; then long ones, so that who has queued up can go on.
_BURSTS = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 4.0)
# Seconds between two looks, which keep nobody waiting.
_LOOKS = (0.1, 0.15, 0.25, 0.4, 0.6, 1.0, 1.5, 2.0)
_JITTER = (0.7, 1.3)
_SLICE = 0.5  # seconds after which a waiting step asks whether it is to stop
_SHOWN = 5  # blockers that an error names


class LockWaitObserver(Protocol):
    """Who is told of the attempts, and may stop them."""

    def lock_attempt(self, facts: dict[str, Any]) -> None:
        """Tell that others were in the way."""

    def lock_pause(self, facts: dict[str, Any]) -> None:
        """Ask whether to go on waiting; raises when not."""

    def lock_fired(self, duration_ms: int) -> None:
        """Tell that a statement is sent which had to wait."""


class LockTimeout(BaseException):
    """The locks of a step were not to be had within its means. Not an `Exception`:
    nothing that a project wraps around its migrations should swallow it."""


class LockAttempts:
    """The attempts at one step: what they have cost, and what they may still cost."""

    def __init__(self, means: DatabaseSettings, teller: LockWaitObserver) -> None:
        self._lock_timeout = means.lock_timeout.total_seconds()
        self._stall_budget = means.stall_budget.total_seconds()
        self._patience = means.patience.total_seconds()
        self._teller = teller
        self._number = self._looks = self._bursts = 0
        self._stalled = self._waited = 0.0
        self._last: dict[str, Any] = {}
        self._waits = False
        self.named: tuple[TableLockRequest, ...] = ()  # what earlier attempts were about

    @property
    def lock_timeout(self) -> float:
        """Return the seconds for which a statement may usually stand in the queue."""
        return self._lock_timeout

    @property
    def limit(self) -> float:
        """Return the seconds that the next statement may stand in the queue."""
        return min(self._lock_timeout, max(self._stall_budget - self._stalled, 0.001))

    def about(self, wanted: tuple[TableLockRequest, ...]) -> tuple[TableLockRequest, ...]:
        """Return these locks and all that earlier attempts at the step were about."""
        return tuple(dict.fromkeys((*self.named, *wanted)))

    def held_back(
        self, wanted: tuple[TableLockRequest, ...], blockers: list[Blocker]
    ) -> None:
        """Wait, because a look has shown who is in the way.

        Raises `LockTimeout` when the patience is spent.
        """
        self._note(wanted, blockers, fired=False)
        self._pause(_LOOKS[min(self._looks, len(_LOOKS) - 1)], None)
        self._looks += 1

    def failed(
        self,
        wanted: tuple[TableLockRequest, ...],
        blockers: list[Blocker],
        *,
        stalled: float,
    ) -> None:
        """Write down an attempt that was sent, and failed for others in the way."""
        self._stalled += stalled
        self.named = self.about(wanted)
        self._note(self.named, blockers, fired=True)

    def pause(self, error: Exception) -> None:
        """Wait before the next attempt. Raises `LockTimeout` when a purse is empty."""
        if self._stalled >= self._stall_budget:
            raise self._spent("the stall budget is spent") from error
        self._looks = 0
        self._pause(_BURSTS[min(self._bursts, len(_BURSTS) - 1)], error)
        self._bursts += 1

    def fires(self, limit: float) -> None:
        """Tell that a statement is sent now, if the step has been waiting."""
        if self._waits:
            self._waits = False
            self._teller.lock_fired(round(limit * 1000))

    def _note(
        self, wanted: tuple[TableLockRequest, ...], blockers: list[Blocker], *, fired: bool
    ) -> None:
        self._number += 1
        self._last = {
            "attempt": self._number,
            "fired": fired,
            "tables": sorted({want.table for want in wanted}),
            "wanted": [[want.table, want.mode] for want in wanted],
            "blockers": [_shown(blocker) for blocker in blockers],
        }
        self._teller.lock_attempt(self._facts())

    def _facts(self) -> dict[str, Any]:
        return {
            **self._last,
            "stalled_ms": round(self._stalled * 1000),
            "waited_ms": round(self._waited * 1000),
        }

    def _pause(self, usual: float, error: Exception | None) -> None:
        """Wait about so long, asking meanwhile whether to go on."""
        left = usual * random.uniform(*_JITTER)  # noqa: S311 - so that nobody is in step
        self._waits = True
        while True:
            self._teller.lock_pause(self._facts())
            if left <= 0:
                return
            if self._waited + self._stalled >= self._patience:
                raise self._spent("the patience is spent") from error
            start = time.monotonic()
            time.sleep(min(left, _SLICE))  # a lock of others is polled, never waited for
            self._waited += (took := time.monotonic() - start)
            left -= took

    def _spent(self, why: str) -> LockTimeout:
        tables = ", ".join(self._last["tables"]) or "what it needs"
        blockers = self._last["blockers"]
        names = "; ".join(map(_told, blockers[:_SHOWN])) or "nobody was seen"
        return LockTimeout(
            f"No lock on {tables} after {self._number} "
            f"attempt{'' if self._number == 1 else 's'}: {why} (waited "
            f"{self._waited:.1f} s, held others up for {self._stalled:.1f} s). "
            f"In the way: {names}."
        )


def _shown(blocker: Blocker) -> dict[str, Any]:
    kept = ("pid", "user", "application", "query", "since", "state", "begun", "certain")
    facts = asdict(blocker)
    return {key: facts[key] for key in kept}


def _told(blocker: dict[str, Any]) -> str:
    maybe = "" if blocker["certain"] else "perhaps "
    application = f", {blocker['application']}" if blocker["application"] else ""
    since = f", since {blocker['since']}" if blocker["since"] else ""
    state = f", {blocker['state']}" if blocker["state"] else ""
    query = " ".join(blocker["query"].split())[:120]
    return (
        f"{maybe}pid {blocker['pid']} (user {blocker['user'] or 'unknown'}"
        f"{application}{since}{state}): {query or 'no query to be seen'}"
    )


class BlockerMonitor:
    """Looks at the locks of one database; opened by the first look."""

    def __init__(self, database: str, contention: LockInspector) -> None:
        # Not what `connections` gives: neither the settings of the worker's session nor
        # its lock belong here.
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
        """Return who would let a statement wait in vain, and how many seconds more than
        usual the statement needs for a vacuum to give way.

        A young transaction will be gone soon: a short wait in the queue is enough.
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
        """Return who holds conflicting locks, but for `session`, the migration's own.

        What cannot be seen now holds nothing back: the statement has its limit.
        """
        own = self._contention.session(session)
        try:
            found = self._contention.in_the_way(self._connection, wanted)
        except DatabaseError:
            self._connection.close()
            return []
        return [blocker for blocker in found if blocker.pid != own]

    def close(self) -> None:
        """End the session."""
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
