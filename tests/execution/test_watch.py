"""What does a look make of what the database tells of locks?

A vacuum of the server's own cannot be had on demand, nor a role that sees little: here
the database is one that tells what the test wants.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from migration_route.execution.worker.lock_retry import BlockerMonitor
from migration_route.vendors.base import Blocker
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
    """A database with one second until a vacuum gives way."""

    def __init__(self, *blockers: Blocker) -> None:
        self.blockers = list(blockers)

    def observes(self, connection: Any) -> bool:
        """See locks."""
        return True

    def session(self, connection: Any) -> int:
        """Be nobody who is in the way."""
        return 1

    def in_the_way(self, connection: Any, wanted: Any) -> list[Blocker]:
        """Tell what was said."""
        assert wanted == TABLE
        return self.blockers

    def yield_time(self, connection: Any) -> float:
        """Return a second."""
        return 1.0


def seen(watch: BlockerMonitor, older_than: float = 0.5) -> tuple[list[int], float]:
    """Return the pids that hold a statement back, and the seconds more."""
    own: Any = None  # `Telling` does not look at it
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
    """One that prevents a wraparound does not, nor does anybody else."""
    assert seen(BlockerMonitor("default", Telling(*blockers))) == (held_back, more)


@pytest.mark.usefixtures("database")
def test_a_transaction_whose_age_is_hidden_counts_from_the_first_look():
    """The role may not see when it began: only what stays is in the way."""
    hidden = replace(SOMEBODY, since="", age=0.0)
    telling = Telling(hidden)
    watch = BlockerMonitor("default", telling)
    assert seen(watch, 0.0)[0] == []
    assert seen(watch, 0.0)[0] == [4242]
    telling.blockers = [replace(hidden, key="3/78")]
    assert seen(watch, 0.0)[0] == []
