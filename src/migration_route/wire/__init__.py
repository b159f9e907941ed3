"""What goes over the wire?

One frozen type for each body that is sent or answered: the same types check a request,
write an answer, give `openapi.json` its components and are read by a remote client.
Times are ISO 8601 in UTC, durations milliseconds. No Django here.
"""

from __future__ import annotations

from migration_route.wire.answers import Problem, to_json
from migration_route.wire.approvals import ApprovalAnswer, DemandAnswer, SayingAnswer
from migration_route.wire.body import Answer
from migration_route.wire.forecasts import (
    EstimateAnswer,
    ForecastAnswer,
    TableAnswer,
    TableLockAnswer,
)
from migration_route.wire.health import HealthAnswer, SignalAnswer
from migration_route.wire.ledger import (
    EntriesAnswer,
    EntryAnswer,
    ExportedEntry,
    VerificationAnswer,
)
from migration_route.wire.openings import ActiveWaitingAnswer, OpeningAnswer, WorkedAnswer
from migration_route.wire.plans import (
    DeferredAnswer,
    FindingAnswer,
    OperationAnswer,
    PlanAnswer,
    PlanStepAnswer,
    RehearsedAnswer,
)
from migration_route.wire.rehearsals import (
    CreateRehearsal,
    LimitAnswer,
    RehearsalAnswer,
    RehearsalsAnswer,
    ReportAnswer,
    SeenLockAnswer,
    SeenOperationAnswer,
    SeenStatementAnswer,
    SeenStepAnswer,
)
from migration_route.wire.requests import (
    Alias,
    CancelRun,
    CreateRun,
    GiveReason,
    Name,
    Reason,
    Reauthenticate,
    Request,
    Resolve,
    ResumeRun,
    TargetName,
)
from migration_route.wire.runs import (
    ActorAnswer,
    BlockerAnswer,
    EndedBlockersAnswer,
    EventAnswer,
    EventsAnswer,
    NotEndedAnswer,
    OperationEvidenceAnswer,
    RunAnswer,
    RunsAnswer,
    RunStepAnswer,
    SessionAnswer,
    StepErrorAnswer,
    WaitingAnswer,
)
from migration_route.wire.status import DatabaseAnswer, ReadyAnswer, StatusAnswer

__all__ = [
    "ActiveWaitingAnswer",
    "ActorAnswer",
    "Alias",
    "Answer",
    "ApprovalAnswer",
    "BlockerAnswer",
    "CancelRun",
    "CreateRehearsal",
    "CreateRun",
    "DatabaseAnswer",
    "DeferredAnswer",
    "DemandAnswer",
    "EndedBlockersAnswer",
    "EntriesAnswer",
    "EntryAnswer",
    "EstimateAnswer",
    "EventAnswer",
    "EventsAnswer",
    "ExportedEntry",
    "FindingAnswer",
    "ForecastAnswer",
    "GiveReason",
    "HealthAnswer",
    "LimitAnswer",
    "Name",
    "NotEndedAnswer",
    "OpeningAnswer",
    "OperationAnswer",
    "OperationEvidenceAnswer",
    "PlanAnswer",
    "PlanStepAnswer",
    "Problem",
    "ReadyAnswer",
    "Reason",
    "Reauthenticate",
    "RehearsalAnswer",
    "RehearsalsAnswer",
    "RehearsedAnswer",
    "ReportAnswer",
    "Request",
    "Resolve",
    "ResumeRun",
    "RunAnswer",
    "RunStepAnswer",
    "RunsAnswer",
    "SayingAnswer",
    "SeenLockAnswer",
    "SeenOperationAnswer",
    "SeenStatementAnswer",
    "SeenStepAnswer",
    "SessionAnswer",
    "SignalAnswer",
    "StatusAnswer",
    "StepErrorAnswer",
    "TableAnswer",
    "TableLockAnswer",
    "TargetName",
    "VerificationAnswer",
    "WaitingAnswer",
    "WorkedAnswer",
    "to_json",
]
