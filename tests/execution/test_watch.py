"""Tests of how the reported locks are interpreted.

An autovacuum of the server cannot be produced on demand, nor a role with limited
visibility: here the database is a stub that reports what the test sets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from migration_route.execution.worker.lock_retry import BlockerMonitor
from migration_route.vendors.base import Blocker, LockInspector
from tests.execution.test_attempts import SOMEBODY, TABLE

VACUUM = replace(
    SOMEBODY,
    pid=77,
    user="",
    query="autovacuum: VACUUM public.shop_item",
    yields=True,
    is_server=True,
    key="5/1",
)


class Telling:
    """A database with one second until an autovacuum yields."""

    def __init__(self, *blockers: Blocker) -> None:
        self.blockers = list(blockers)

    def observes(self, connection: Any) -> bool:
        """Supports observing locks."""
        return True

    def session(self, connection: Any) -> int:
        """Return a session that blocks nothing."""
        return 1

    def blockers_of(self, connection: Any, wanted: Any) -> list[Blocker]:
        """Return the configured blockers."""
        assert wanted == TABLE
        return self.blockers

    def yield_time(self, connection: Any) -> float:
        """Return one second."""
        return 1.0


def monitor(database: Telling) -> BlockerMonitor:
    """Return the monitor of this database."""
    return BlockerMonitor("default", cast(LockInspector, database))


def seen(watch: BlockerMonitor, older_than: float = 0.5) -> tuple[list[int], float]:
    """Return the pids that block a statement, and the extra seconds."""
    own: Any = None  # `Telling` does not use it
    blockers, more = watch.holds_back(own, TABLE, older_than=older_than)
    return [blocker.pid for blocker in blockers], more


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("blockers", "held_back", "more"),
    [
        ([], [], 0.0),
        ([SOMEBODY], [4242], 0.0),
        ([VACUUM], [], 1.0),
        ([VACUUM, SOMEBODY], [4242], 0.0),
        ([replace(VACUUM, yields=False)], [77], 0.0),
        ([replace(SOMEBODY, age=0.1)], [], 0.0),
    ],
    ids=["nobody", "somebody", "a vacuum", "both", "no wraparound", "somebody new"],
)
def test_a_vacuum_gives_way_to_one_who_waits_a_little_longer(blockers, held_back, more):
    """One that prevents a wraparound does not, nor does any other session."""
    assert seen(monitor(Telling(*blockers))) == (held_back, more)


@pytest.mark.usefixtures("database")
def test_a_transaction_whose_age_is_hidden_counts_from_the_first_look():
    """The role may not see when it started: only a blocker that stays counts."""
    hidden = replace(SOMEBODY, since="", age=0.0)
    telling = Telling(hidden)
    watch = monitor(telling)
    assert seen(watch, 0.0)[0] == []
    assert seen(watch, 0.0)[0] == [4242]
    telling.blockers = [replace(hidden, key="3/78")]
    assert seen(watch, 0.0)[0] == []
