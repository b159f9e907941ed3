"""Tests that anonymous denials are bounded on the ledger, and that omitted ones are
counted."""

from __future__ import annotations

from typing import Any

import pytest

from migration_route.services.audit import (
    MAX_TRACKED,
    WINDOW,
    AnonymousDenialThrottle,
    Attempt,
    Suppressed,
)


class Clock:
    """A clock that the test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return the clock of this test."""
    return Clock()


@pytest.fixture
def strangers(clock: Clock) -> AnonymousDenialThrottle:
    """Return a throttle that uses this clock."""
    return AnonymousDenialThrottle(clock)


def attempt(number: int = 0, **changes: str) -> Attempt:
    """Record a denied attempt."""
    usual = {"kind": "anonymous", "address": f"10.0.0.{number}", "verb": "apply"}
    return Attempt(**{**usual, "code": "unauthenticated", **changes})


def test_the_same_has_one_entry_in_a_window(strangers, clock):
    """The next entry counts the omitted ones in between."""
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
    """Another address, another verb, another way to be anonymous."""
    strangers.admit(attempt())
    different: dict[str, Any] = {part: "another"}
    assert strangers.admit(attempt(**different)) == Suppressed()


def test_a_crowd_has_one_entry_for_all(strangers, clock):
    """So neither the ledger nor the memory grows with the number of addresses."""
    entries = [strangers.admit(attempt(number)) for number in range(MAX_TRACKED + 100)]
    assert [entry is not None for entry in entries] == [True] * (MAX_TRACKED + 1) + [
        False
    ] * 99
    assert len(strangers._tracked) == MAX_TRACKED + 1
    assert strangers.admit(attempt(0)) is None  # a recognized address
    clock.now += WINDOW
    assert strangers.admit(attempt(MAX_TRACKED + 200)) == Suppressed(elsewhere=100)


def test_nothing_is_left_out_unsaid(strangers, clock):
    """Entries and their counts add up to all denials except those since the last entry."""
    told = denials = 0
    for turn in range(2000):
        clock.now += 0.7
        found = strangers.admit(attempt(turn * 7 % (3 * MAX_TRACKED)))
        denials += 1
        if found is not None:
            told += 1 + found.same + found.elsewhere
        assert len(strangers._tracked) <= MAX_TRACKED + 1
    still_known = sum(tracked.omitted for tracked in strangers._tracked.values())
    assert told + still_known + strangers._elsewhere == denials
    assert told > denials / 2
