"""Tests of which entries are notifications."""

from __future__ import annotations

import pytest

from migration_route.core.enums import ENDED_STATES, Action, RunState
from migration_route.core.events import DEFAULT_EVENT_TYPES, EventType, event_types_of
from migration_route.signals import SIGNALS

UNTOLD = {
    Action.LEDGER_INSTALLED,
    Action.LOCK_LOST,
    Action.INDEX_DROPPED,
    Action.CANCEL_REQUESTED,
    Action.FORCE_REQUESTED,
    Action.HEALTH_OVERRIDDEN,
    Action.SCHEDULE_OVERRIDDEN,
    Action.BLOCKERS_TERMINATED,
    Action.MIGRATE_STARTED,
    Action.PREVIOUS_SECRET_USED,
    Action.PERMIT_ISSUED,
    Action.REHEARSAL_REQUESTED,
    "approved",  # one of several required; the last one moves the run
}
"""Actions that are on the ledger only, unless they move a run."""


def moved(before: RunState, after: RunState, **facts: object) -> tuple[EventType, ...]:
    return event_types_of(Action.RUN_STATE, {"from": before, "to": after, **facts})


@pytest.mark.parametrize(
    ("before", "after", "edges"),
    [
        ("queued", "running", (EventType.RUN_STARTED,)),
        ("queued", "waiting", (EventType.RUN_WAITING,)),
        ("waiting", "running", (EventType.RUN_RESUMED,)),
        ("running", "waiting", (EventType.RUN_WAITING,)),
        ("running", "paused", (EventType.RUN_PAUSED,)),
        ("paused", "running", (EventType.RUN_RESUMED,)),
        ("paused", "paused", ()),
        ("running", "lost", (EventType.RUN_LOST,)),
        ("running", "cancelling", ()),
        ("queued", "awaiting_approval", (EventType.RUN_APPROVAL_NEEDED,)),
        ("awaiting_approval", "queued", (EventType.RUN_APPROVED,)),
        ("awaiting_approval", "rejected", (EventType.RUN_REJECTED, EventType.RUN_ENDED)),
        ("awaiting_approval", "expired", (EventType.RUN_ENDED,)),
        ("awaiting_approval", "stale", (EventType.RUN_ENDED,)),
        ("running", "succeeded", (EventType.RUN_ENDED,)),
        ("running", "partial", (EventType.RUN_ENDED,)),
        ("lost", "failed", (EventType.RUN_ENDED,)),
    ],
)
def test_a_transition_is_the_edge_that_a_reader_would_name(before, after, edges):
    assert moved(RunState(before), RunState(after)) == edges


def test_a_run_starts_once_also_when_it_had_to_wait_for_its_lock():
    waited = moved(RunState.WAITING, RunState.RUNNING, began=True)
    assert waited == (EventType.RUN_STARTED,)


@pytest.mark.parametrize("state", sorted(ENDED_STATES))
def test_every_ending_is_told(state):
    """A state that is added later is covered automatically."""
    assert EventType.RUN_ENDED in moved(RunState.RUNNING, state)


@pytest.mark.parametrize("action", sorted(set(Action) - UNTOLD - {Action.RUN_STATE}))
def test_every_action_is_told_or_named_as_untold(action):
    moves = {
        Action.PAUSE_REQUESTED: ("queued", "paused"),
        Action.RESUMED: ("paused", "running"),
        "rejected": ("awaiting_approval", "rejected"),
    }
    before, after = moves.get(action, (None, None))
    told = event_types_of(action, {"from": before, "to": after})
    assert told, f"decide: an edge for {action} in edges.py, or its name in UNTOLD here"


@pytest.mark.parametrize("action", sorted(UNTOLD))
def test_what_is_untold_moves_no_run(action):
    assert event_types_of(action, {}) == ()


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ("queued", (EventType.RUN_APPROVED,)),
        ("waiting", (EventType.RUN_APPROVED, EventType.RUN_WAITING)),
    ],
)
def test_an_approved_run_is_told_so_also_where_it_waits_for_its_window(after, told):
    facts = {"from": "awaiting_approval", "to": after}
    assert event_types_of(Action.RUN_STATE, facts) == told


def test_a_request_that_needs_approval_is_both():
    told = event_types_of(Action.RUN_REQUESTED, {"approval": {"required": 1}})
    assert told == (EventType.RUN_APPROVAL_NEEDED, EventType.RUN_REQUESTED)


def test_there_is_a_signal_for_each_edge():
    assert set(SIGNALS) == set(EventType)
    assert len(set(map(id, SIGNALS.values()))) == len(EventType)


def test_strangers_are_not_told_of_unless_somebody_asks():
    assert not DEFAULT_EVENT_TYPES & {EventType.DENIED, EventType.REFUSED}
