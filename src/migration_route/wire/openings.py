"""How is it answered when a run may begin?"""

from __future__ import annotations

from migration_route.wire.body import Answer


class OpeningAnswer(Answer, frozen=True, kw_only=True):
    """When a run may begin that is asked for now: `reason` is now, window, freeze or
    never; `at` is the time where it is later, and `why` says it in a sentence."""

    at: str | None
    reason: str
    why: str


class ActiveWaitingAnswer(Answer, frozen=True, kw_only=True):
    """Why the run waits that owns a database, and until when if that is known."""

    reason: str
    until: str | None


class WorkedAnswer(Answer, frozen=True, kw_only=True):
    """The runs that a worker has begun, until it ended."""

    begun: list[str]
