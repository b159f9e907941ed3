"""What goes over the wire?

One frozen type for each body that is sent or answered: the same types check a request,
write an answer, give `openapi.json` its components and are read by a remote client.
Times are ISO 8601 in UTC, durations milliseconds. No Django here.
"""

from __future__ import annotations

from migration_route.wire.answers import (
    ActorAnswer,
    BlockerAnswer,
    DatabaseAnswer,
    DeferredAnswer,
    EndedBlockersAnswer,
    EventAnswer,
    EventsAnswer,
    FindingAnswer,
    NotEndedAnswer,
    OperationAnswer,
    OperationEvidenceAnswer,
    PlanAnswer,
    PlanStepAnswer,
    Problem,
    ReadyAnswer,
    RunAnswer,
    RunsAnswer,
    RunStepAnswer,
    SessionAnswer,
    StatusAnswer,
    StepErrorAnswer,
    WaitingAnswer,
    to_json,
)
from migration_route.wire.body import Answer
from migration_route.wire.health import HealthAnswer, SignalAnswer
from migration_route.wire.ledger import EntriesAnswer, EntryAnswer, VerificationAnswer
from migration_route.wire.requests import (
    Alias,
    CancelRun,
    CreateRun,
    GiveReason,
    Name,
    Reason,
    Request,
    Resolve,
    ResumeRun,
    TargetName,
)

__all__ = [
    "ActorAnswer",
    "Alias",
    "Answer",
    "BlockerAnswer",
    "CancelRun",
    "CreateRun",
    "DatabaseAnswer",
    "DeferredAnswer",
    "EndedBlockersAnswer",
    "EntriesAnswer",
    "EntryAnswer",
    "EventAnswer",
    "EventsAnswer",
    "FindingAnswer",
    "GiveReason",
    "HealthAnswer",
    "Name",
    "NotEndedAnswer",
    "OperationAnswer",
    "OperationEvidenceAnswer",
    "PlanAnswer",
    "PlanStepAnswer",
    "Problem",
    "ReadyAnswer",
    "Reason",
    "Request",
    "Resolve",
    "ResumeRun",
    "RunAnswer",
    "RunStepAnswer",
    "RunsAnswer",
    "SessionAnswer",
    "SignalAnswer",
    "StatusAnswer",
    "StepErrorAnswer",
    "TargetName",
    "VerificationAnswer",
    "WaitingAnswer",
    "to_json",
]
