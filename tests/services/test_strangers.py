"""Is the ledger bounded, whatever strangers do, and is nothing left out unsaid?"""

from __future__ import annotations

import pytest

from migration_route.services.audit import (
    MOST,
    WINDOW,
    AnonymousDenialThrottle,
    Attempt,
    Suppressed,
)


class Clock:
    """A clock that stands still until it is told."""

    now = 1000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Give a clock of this test."""
    return Clock()


@pytest.fixture
def strangers(clock: Clock) -> AnonymousDenialThrottle:
    """Give a memory by that clock."""
    return AnonymousDenialThrottle(clock)


def attempt(number: int = 0, **changes: str) -> Attempt:
    """Return what somebody tried."""
    usual = {"kind": "anonymous", "address": f"10.0.0.{number}", "verb": "apply"}
    return Attempt(**{**usual, "code": "unauthenticated", **changes})


def test_the_same_has_one_entry_in_a_window(strangers, clock):
    """The next one tells how many there were in between."""
    assert strangers.admit(attempt()) == Suppressed()
    assert [strangers.admit(attempt()) for _ in range(3)] == [None] * 3
    clock.now += WINDOW - 1
    assert strangers.admit(attempt()) is None
    clock.now += 1
    assert strangers.admit(attempt()) == Suppressed(same=4)
    clock.now += WINDOW
    assert strangers.admit(attempt()) == Suppressed()


@pytest.mark.parametrize("part", ["kind", "address", "verb", "code"])
def test_what_differs_has_an_entry_of_its_own(strangers, part):
    """Another address, another verb, another way to be nobody."""
    strangers.admit(attempt())
    assert strangers.admit(attempt(**{part: "another"})) == Suppressed()


def test_a_crowd_has_one_entry_for_all(strangers, clock):
    """So neither the ledger nor the memory grows with the number of addresses."""
    entries = [strangers.admit(attempt(number)) for number in range(MOST + 100)]
    assert [entry is not None for entry in entries] == [True] * (MOST + 1) + [False] * 99
    assert len(strangers._seen) == MOST + 1
    assert strangers.admit(attempt(0)) is None  # one of those that are told apart
    clock.now += WINDOW
    assert strangers.admit(attempt(MOST + 200)) == Suppressed(elsewhere=100)


def test_nothing_is_left_out_unsaid(strangers, clock):
    """Entries and what they tell add up to all denials but those since the last entry."""
    told = denials = 0
    for turn in range(2000):
        clock.now += 0.7
        found = strangers.admit(attempt(turn * 7 % (3 * MOST)))
        denials += 1
        if found is not None:
            told += 1 + found.same + found.elsewhere
        assert len(strangers._seen) <= MOST + 1
    still_known = sum(seen.left_out for seen in strangers._seen.values())
    assert told + still_known + strangers._elsewhere == denials
    assert told > denials / 2
