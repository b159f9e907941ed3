"""The files of an evidence bundle, and the result of verifying one."""

from __future__ import annotations

from typing import Any

from migration_route.presentation.schemas.plans import (
    Answer,
    ApprovalRequirementAnswer,
    DeferredAnswer,
)
from migration_route.presentation.schemas.runs import ActorAnswer


class RecordedStepAnswer(Answer, frozen=True, kw_only=True):
    """A step of the plan of a run, as it was recorded with the request.

    `digest`: of the source of the migration.
    """

    app: str
    name: str
    direction: str
    digest: str
    rolls_back: bool


class RecordedPlanAnswer(Answer, frozen=True, kw_only=True):
    """`plan.json`: the plan of a run, as it was recorded with the request.

    The ledger records neither the SQL nor the findings of a plan. The statements that the
    run sent are events; those of a rehearsal are in its report.
    """

    database: str
    direction: str
    mode: str
    phase: str | None
    targets: list[str]
    fingerprint: str
    build: str
    steps: list[RecordedStepAnswer]
    deferred: list[DeferredAnswer]


class RecordedDecisionAnswer(Answer, frozen=True, kw_only=True):
    """An approval or a rejection, with the relevant permissions that the user had."""

    decision: str
    by: ActorAnswer
    permissions: list[str]
    reason: str
    at: str


class RecordedApprovalsAnswer(Answer, frozen=True, kw_only=True):
    """`approvals.json`: the approvals that a run needed, and the decisions of users."""

    requirement: ApprovalRequirementAnswer | None
    decisions: list[RecordedDecisionAnswer]


class SavedEvidenceAnswer(Answer, frozen=True, kw_only=True):
    """The file to which a bundle was written."""

    run: str
    file: str
    bytes: int


class EvidenceAnswer(Answer, frozen=True, kw_only=True):
    """The result of verifying an evidence bundle.

    `links`: how many of its `entries` directly follow another one of the bundle, or start
    the ledger. `signature`: valid, invalid, or not_checked if there was no key.
    """

    intact: bool
    message: str
    signature: str
    manifest: dict[str, Any] | None
    state: str
    entries: int
    links: int
    events: int
