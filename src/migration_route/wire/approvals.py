"""How is it answered whose approval a plan needs, and who has given it?"""

from __future__ import annotations

from migration_route.wire.body import Answer


class DemandAnswer(Answer, frozen=True, kw_only=True):
    """What a plan needs before it may run: so many people who have each of these
    permissions (`approve`: the right of the route), within so many seconds of the
    request. Without `self_approval`, whoever asks is none of them."""

    required: int
    permissions: list[str]
    self_approval: bool
    lifetime: float
    rule: str
    why: str


class SayingAnswer(Answer, frozen=True, kw_only=True):
    """What somebody has said of a run that waits for approval."""

    kind: str
    name: str
    at: str
    reason: str


class ApprovalAnswer(Answer, frozen=True, kw_only=True):
    """Whose approval a run needs or needed: `given` of `required` count so far. `by`: who
    has approved it; `expires`: when the request does; `rejected`: by whom, and why."""

    required: int
    given: int
    by: list[SayingAnswer]
    expires: str
    why: str
    rule: str
    permissions: list[str]
    self_approval: bool
    rejected: SayingAnswer | None = None
