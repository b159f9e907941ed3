"""At which edges of a run are people and machines told, and what are they told?

An edge is derived from an entry of the ledger, and from nothing else: what is on record is
told, and a new state or action comes by itself. No Django here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum, unique
from typing import Any

from migration_route.core.enums import ENDED_STATES, Action, RunState


@unique
class EventType(StrEnum):
    """What people and machines can be told of."""

    RUN_REQUESTED = "run_requested"
    RUN_APPROVAL_NEEDED = "run_approval_needed"
    RUN_APPROVED = "run_approved"
    RUN_REJECTED = "run_rejected"
    RUN_STARTED = "run_started"
    RUN_WAITING = "run_waiting"
    RUN_HELD = "run_held"
    RUN_RESUMED = "run_resumed"
    RUN_LOST = "run_lost"
    RUN_ENDED = "run_ended"
    RUN_RESOLVED = "run_resolved"
    STEP_STARTED = "step_started"
    STEP_FINISHED = "step_finished"
    REHEARSAL_ENDED = "rehearsal_ended"
    MIGRATE_FINISHED = "migrate_finished"
    DENIED = "denied"
    REFUSED = "refused"


DEFAULT_EVENT_TYPES = frozenset(
    {
        EventType.RUN_REQUESTED,
        EventType.RUN_APPROVAL_NEEDED,
        EventType.RUN_APPROVED,
        EventType.RUN_REJECTED,
        EventType.RUN_STARTED,
        EventType.RUN_HELD,
        EventType.RUN_LOST,
        EventType.RUN_ENDED,
        EventType.RUN_RESOLVED,
        EventType.MIGRATE_FINISHED,
    }
)
"""What a webhook tells that names no events: what a team wants to know of a run, without
each step, each wait for a lock, and what strangers try."""

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
    RunState.HELD: (EventType.RUN_HELD,),
    RunState.LOST: (EventType.RUN_LOST,),
    RunState.REJECTED: (EventType.RUN_REJECTED, EventType.RUN_ENDED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """One edge, as signals and messages tell it; `facts` are those of its entry."""

    id: str  # of the entry: the same however often it is told
    edge: EventType
    at: str  # ISO 8601 in UTC
    database: str  # the alias; "" where it is about none
    run: str  # "" where it is about none
    actor_kind: str
    actor_name: str
    build: str
    facts: Mapping[str, Any]


def event_types_of(action: str, facts: Mapping[str, Any]) -> tuple[EventType, ...]:
    """Return the edges that an entry stands for: the one that says most comes first."""
    if action == Action.RUN_REQUESTED:
        more = (EventType.RUN_APPROVAL_NEEDED,) if facts.get("approval") else ()
        return (*more, EventType.RUN_REQUESTED)
    told = _BY_ACTION.get(action)  # type: ignore[call-overload]
    if told is not None:
        return (told,)
    return _of_transition(facts)


def _of_transition(facts: Mapping[str, Any]) -> tuple[EventType, ...]:
    """Return the edges of an entry that says `from` and `to`, whichever its action is."""
    before, after = facts.get("from"), facts.get("to")
    if before == after:
        return ()
    if after == RunState.RUNNING:
        begins = before == RunState.QUEUED or facts.get("began")
        goes_on = before in {RunState.WAITING, RunState.HELD}
        return (
            (EventType.RUN_STARTED,)
            if begins
            else (EventType.RUN_RESUMED,)
            if goes_on
            else ()
        )
    if before == RunState.AWAITING_APPROVAL and after == RunState.WAITING:
        return (
            EventType.RUN_APPROVED,
            EventType.RUN_WAITING,
        )  # for its time, or its window
    if after == RunState.QUEUED:
        is_approved = before == RunState.AWAITING_APPROVAL
        return (EventType.RUN_APPROVED,) if is_approved else ()
    if after in _BY_STATE:
        return _BY_STATE[RunState(after)]
    return (EventType.RUN_ENDED,) if after in ENDED_STATES else ()
