"""Tests of the combined health signals, as a table of cases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from migration_route.core.values import (
    Freeze,
    HealthSettings,
    SignalName,
    SignalState,
    normal_signal,
    stop_signal,
    unknown_signal,
)
from migration_route.policy.schedule import (
    Pause,
    Proceed,
    evaluate_health,
    freeze_signal,
)

FINE = normal_signal(SignalName.DUMP, "Nobody dumps.")
DUMP = stop_signal(SignalName.DUMP, "Somebody dumps.")
FULL = stop_signal(SignalName.CONNECTIONS, "It is full.")
HIDDEN = unknown_signal(SignalName.DISK, "It is elsewhere.")
NOON = datetime(2026, 12, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("signals", "ignored", "overridden", "because"),
    [
        ((), (), (), ()),
        ((FINE,), (), (), ()),
        ((FINE, HIDDEN), (), (), ()),
        ((DUMP,), (), (), (DUMP,)),
        ((FULL, HIDDEN, DUMP), (), (), (FULL, DUMP)),
        ((DUMP,), ("dump",), (), ()),
        ((DUMP, FULL), ("dump",), (), (FULL,)),
        ((DUMP,), (), ("dump",), ()),
        ((DUMP, FULL), (), ("dump",), (FULL,)),
    ],
)
def test_one_signal_that_stops_and_is_heeded_is_enough(
    signals, ignored, overridden, because
):
    """Unknown does not stop a run, nor does an ignored or overridden signal; all are
    reported."""
    settings = HealthSettings(ignore=frozenset(map(SignalName, ignored)))
    names = [SignalName(name) for name in overridden]
    found = evaluate_health(signals, settings, overridden=names)
    assert found.signals == signals
    if because:
        assert isinstance(found, Pause)
        assert found.because == because
        assert all(one.reason in found.reason for one in because)
    else:
        assert isinstance(found, Proceed)


def a_freeze(start: int, end: int, reason: str = "The sale.") -> Freeze:
    """Return a freeze between two hours, counted from noon."""
    begins, ends = NOON + timedelta(hours=start), NOON + timedelta(hours=end)
    return Freeze(begins=begins, ends=ends, reason=reason)


@pytest.mark.parametrize(
    ("freezes", "state"),
    [
        ((), SignalState.NORMAL),
        ((a_freeze(1, 2),), SignalState.NORMAL),
        ((a_freeze(-2, 0),), SignalState.NORMAL),
        ((a_freeze(0, 1),), SignalState.STOP),
        ((a_freeze(-5, -1), a_freeze(-1, 1)), SignalState.STOP),
    ],
)
def test_a_freeze_stops_from_its_first_moment_to_its_last(freezes, state):
    """The end is exclusive."""
    assert freeze_signal(freezes, NOON).state is state


def test_of_two_freezes_the_one_that_ends_later_is_named():
    """The reported end must not lie within another freeze."""
    found = freeze_signal([a_freeze(-1, 3, "Longer."), a_freeze(-2, 1)], NOON)
    assert "Longer." in found.reason
    assert found.facts["until"].startswith("2026-12-24T15:00")
