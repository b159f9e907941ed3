"""Derives the events that signals, webhooks and email report from entries of the ledger.

Ledger entries are the only source of events. This module does not import Django.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any

from migration_route.core.enums import ENDED_STATES, Action, RunState


@unique
class EventType(StrEnum):
    """The types of events that users and machines can be notified of."""

    RUN_REQUESTED = "run_requested"
    """A run was requested. Default."""
    RUN_APPROVAL_NEEDED = "run_approval_needed"
    """A run waits for approval. Default."""
    RUN_APPROVED = "run_approved"
    """A run was approved, and is queued. Default."""
    RUN_REJECTED = "run_rejected"
    """A run was rejected. Also a `run_ended`. Default."""
    RUN_STARTED = "run_started"
    """A run holds the lock of its database, and starts. Once per run. Default."""
    RUN_WAITING = "run_waiting"
    """A run waits: `facts.waiting` contains the reason. Can be frequent if other sessions
    hold locks."""
    RUN_PAUSED = "run_paused"
    """A run is paused, by a user, a health signal or a closed window. Default."""
    RUN_RESUMED = "run_resumed"
    """A run continues after it waited or was paused."""
    RUN_LOST = "run_lost"
    """The heartbeat of a run stopped. Default."""
    RUN_ENDED = "run_ended"
    """A run ended, in any way: `facts.to` is the [state](states.md). Default."""
    RUN_RESOLVED = "run_resolved"
    """A run that stopped partway was resolved. Default."""
    STEP_STARTED = "step_started"
    """A step starts."""
    STEP_FINISHED = "step_finished"
    """A step ended, in any way: see `facts.state`."""
    REHEARSAL_ENDED = "rehearsal_ended"
    """A rehearsal ended."""
    MIGRATE_FINISHED = "migrate_finished"
    """A `manage.py migrate` run by hand ended. Default."""
    DENIED = "denied"
    """A request was denied. Any caller can cause this event."""
    REFUSED = "refused"
    """A permitted request was refused because of the current state."""


DEFAULT_EVENT_TYPES = frozenset(
    {
        EventType.RUN_REQUESTED,
        EventType.RUN_APPROVAL_NEEDED,
        EventType.RUN_APPROVED,
        EventType.RUN_REJECTED,
        EventType.RUN_STARTED,
        EventType.RUN_PAUSED,
        EventType.RUN_LOST,
        EventType.RUN_ENDED,
        EventType.RUN_RESOLVED,
        EventType.MIGRATE_FINISHED,
    }
)
"""The events of a webhook that names none: the progress of a run without each step and each
wait for a lock, and without denied and refused requests."""

_BY_ACTION = {
    Action.STEP_STARTED: EventType.STEP_STARTED,
    Action.STEP_FINISHED: EventType.STEP_FINISHED,
    Action.REHEARSAL_ENDED: EventType.REHEARSAL_ENDED,
    Action.MIGRATE_FINISHED: EventType.MIGRATE_FINISHED,
    Action.DENIED: EventType.DENIED,
    Action.REFUSED: EventType.REFUSED,
    Action.RESOLVED: EventType.RUN_RESOLVED,
}

_BY_STATE = {
    RunState.AWAITING_APPROVAL: (EventType.RUN_APPROVAL_NEEDED,),
    RunState.WAITING: (EventType.RUN_WAITING,),
    RunState.PAUSED: (EventType.RUN_PAUSED,),
    RunState.LOST: (EventType.RUN_LOST,),
    RunState.REJECTED: (EventType.RUN_REJECTED, EventType.RUN_ENDED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One event, as signals and messages report it; `facts` are those of its entry."""

    id: str  # of the entry: the same for every delivery
    edge: EventType
    at: str  # ISO 8601 in UTC
    database: str  # the alias; "" for none
    run: str  # "" for none
    actor_kind: str
    actor_name: str
    build: str
    facts: Mapping[str, Any]


def event_types_of(action: str, facts: Mapping[str, Any]) -> tuple[EventType, ...]:
    """Return the event types of an entry, the most specific first."""
    if action == Action.RUN_REQUESTED:
        more = (EventType.RUN_APPROVAL_NEEDED,) if facts.get("approval") else ()
        return (*more, EventType.RUN_REQUESTED)
    event_type = _BY_ACTION.get(action)  # type: ignore[call-overload]
    if event_type is not None:
        return (event_type,)
    return _of_transition(facts)


def _of_transition(facts: Mapping[str, Any]) -> tuple[EventType, ...]:
    """Return the event types of an entry with `from` and `to`, whatever its action is."""
    before, after = facts.get("from"), facts.get("to")
    if before == after:
        return ()
    if after == RunState.RUNNING:
        if before == RunState.QUEUED or facts.get("began"):
            return (EventType.RUN_STARTED,)
        is_resumed = before in {RunState.WAITING, RunState.PAUSED}
        return (EventType.RUN_RESUMED,) if is_resumed else ()
    if before == RunState.AWAITING_APPROVAL and after == RunState.WAITING:
        # It waits for its scheduled time, or for a window.
        return (EventType.RUN_APPROVED, EventType.RUN_WAITING)
    if after == RunState.QUEUED:
        is_approved = before == RunState.AWAITING_APPROVAL
        return (EventType.RUN_APPROVED,) if is_approved else ()
    if after in _BY_STATE:
        return _BY_STATE[RunState(after)]
    return (EventType.RUN_ENDED,) if after in ENDED_STATES else ()
