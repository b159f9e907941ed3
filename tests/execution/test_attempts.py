"""Tests of how long a step retries for its locks, and of what it reports."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from migration_route.conf import DatabaseSettings
from migration_route.execution.worker.lock_retry import LockAttempts, LockTimeout
from migration_route.execution.worker.reporter import RunStopped
from migration_route.vendors.base import Blocker, TableLockRequest

TABLE = (TableLockRequest(table="public.shop_item", mode="AccessExclusiveLock"),)
SOMEBODY = Blocker(
    pid=4242,
    user="web",
    application="gunicorn",
    query="SELECT 1",
    since="2026-01-01T00:00:00.000000Z",
    state="idle in transaction",
    begun="then",
    age=60.0,
    key="3/77",
)


class Listener:
    """A listener that stores what is reported, and stops after that many pauses."""

    def __init__(self, *, patience: int = 1000) -> None:
        self.attempts: list[dict[str, Any]] = []
        self.fired: list[int] = []
        self.asked = 0
        self.patience = patience

    def lock_attempt(self, facts: dict[str, Any]) -> None:
        """Store the attempt."""
        self.attempts.append(facts)

    def lock_pause(self, facts: dict[str, Any]) -> None:
        """Count the pause."""
        assert facts["attempt"] == len(self.attempts)
        self.asked += 1
        if self.asked > self.patience:
            raise RunStopped

    def lock_fired(self, duration_ms: int) -> None:
        """Store the statement."""
        self.fired.append(duration_ms)


def attempts(listener: Listener, **seconds: float) -> LockAttempts:
    """Return the attempts of a step with this database and these limits."""
    means = {name: timedelta(seconds=value) for name, value in seconds.items()}
    return LockAttempts(DatabaseSettings(**means), listener)  # type: ignore[arg-type]


def wait_on(tries: LockAttempts) -> None:
    """Report the same blocking session at every check."""
    for _ in range(50):
        tries.held_back(TABLE, [SOMEBODY])


def test_what_stalls_others_comes_out_of_the_stall_budget():
    """When the budget is spent, the error names the blocking session and keeps its
    cause."""
    listener = Listener()
    tries = attempts(listener, lock_timeout=0.5, blocking_budget=0.8)
    cause = ValueError("lock timeout")
    assert tries.limit == 0.5
    tries.failed(TABLE, [SOMEBODY], stalled=0.5)
    tries.pause(cause)
    assert tries.limit == pytest.approx(0.3)
    tries.failed(TABLE, [SOMEBODY], stalled=0.3)
    with pytest.raises(LockTimeout, match="blocking budget exceeded") as spent:
        tries.pause(cause)
    assert spent.value.__cause__ is cause
    assert "pid 4242 (user web, gunicorn" in str(spent.value)
    assert "SELECT 1" in str(spent.value)
    assert [facts["blocking_ms"] for facts in listener.attempts] == [500, 800]
    assert all(facts["fired"] for facts in listener.attempts)


def test_waiting_comes_out_of_the_patience():
    """A pause blocks no other session, and is limited all the same."""
    listener = Listener()
    tries = attempts(listener, lock_retry_timeout=0.2)
    with pytest.raises(LockTimeout, match="lock retry timeout exceeded"):
        wait_on(tries)
    last = listener.attempts[-1]
    assert last["attempt"] == len(listener.attempts) > 1
    assert (last["fired"], last["blocking_ms"]) == (False, 0)
    assert last["waited_ms"] >= 50


def test_a_step_that_waits_can_be_stopped():
    """Each pause starts and ends with a check for a stop."""
    listener = Listener(patience=3)
    tries = attempts(listener, lock_retry_timeout=60)
    with pytest.raises(RunStopped):
        wait_on(tries)
    assert listener.asked == 4


def test_later_attempts_are_about_all_that_earlier_ones_named():
    """A step that restarts needs all of these locks."""
    tries = attempts(Listener())
    other = (TableLockRequest(table="public.shop_owner", mode="ShareLock"),)
    tries.failed(TABLE, [], stalled=0.1)
    tries.failed(other, [], stalled=0.1)
    assert tries.about(()) == (*TABLE, *other)


def test_it_is_told_once_that_a_statement_is_sent_after_waiting():
    """Not before, and only once."""
    listener = Listener()
    tries = attempts(listener)
    tries.fires(0.5)
    tries.held_back(TABLE, [SOMEBODY])
    tries.fires(0.5)
    tries.fires(0.5)
    assert listener.fired == [500]
