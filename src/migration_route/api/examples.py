"""Example bodies of the OpenAPI document."""

from __future__ import annotations

from msgspec.structs import replace

from migration_route.api.requests import TooLarge
from migration_route.core.enums import (
    ActorKind,
    CopyKind,
    Direction,
    Mode,
    Phase,
    RunState,
    Severity,
    StepState,
)
from migration_route.core.errors import (
    DatabaseUnavailable,
    FingerprintRequired,
    Forbidden,
    IdempotencyMismatch,
    InvalidRequest,
    MethodNotAllowed,
    PlanChanged,
    RouteError,
    Unauthenticated,
    UnknownDatabase,
)
from migration_route.presentation import schemas
from migration_route.presentation.text.problems import problem_answer
from migration_route.services.reauthentication import TooManyAttempts

_FINGERPRINT = "c9f543881994-8afaa4cb-" + "9d33a3c1" * 8
_BUILD = "7c280fa7219d5edd"

CREATE_RUN = {
    "database": "default",
    "targets": [],
    "fingerprint": _FINGERPRINT,
    "reason": "Release 42",
}

CREATE_REHEARSAL = {
    "database": "default",
    "targets": [],
    "fingerprint": _FINGERPRINT,
    "kind": CopyKind.DATA,
    "round_trip": True,
}

PLAN = schemas.PlanAnswer(
    database="default",
    vendor="postgresql",
    direction=Direction.FORWARDS,
    mode=Mode.APPLY,
    targets=[],
    fingerprint=_FINGERPRINT,
    build=_BUILD,
    transactional_ddl=True,
    steps=[
        schemas.PlanStepAnswer(
            app="shop",
            name="0004_book_title",
            direction=Direction.FORWARDS,
            atomic=True,
            reversible=True,
            rolls_back=True,
            digest="33783a61" * 8,
            replaces=[],
            phase=Phase.ANY,
            phase_source="computed",
            phase_why="Neither release depends on it.",
            waits_for=None,
            operations=[
                schemas.OperationAnswer(
                    description="Create index book_title on field(s) title of model book",
                    sql=['CREATE INDEX "book_title" ON "shop_book" ("title");'],
                    opaque=False,
                )
            ],
            lock="ShareLock",
            blocks=["writes", "schema_changes"],
        )
    ],
    findings=[
        schemas.FindingAnswer(
            code="index_blocks_writes",
            severity=Severity.WARNING,
            step="shop.0004_book_title",
            operation=0,
            message="Building an index on shop_book blocks writes until it is done.",
            hint="On PostgreSQL, use AddIndexConcurrently in a separate migration with "
            "atomic = False.",
            accepted="",
        )
    ],
    details_next=None,
    phase=None,
    deferred=[],
)

SUCCEEDED_RUN = schemas.RunAnswer(
    id="01a209939ef77009a54c63ba1f73ae74",
    database="default",
    state=RunState.SUCCEEDED,
    outcome="applied",
    ended=True,
    direction=Direction.FORWARDS,
    mode=Mode.APPLY,
    targets=[],
    fingerprint=_FINGERPRINT,
    requested_by=schemas.ActorAnswer(kind=ActorKind.TOKEN, name="ci"),
    reason="Release 42",
    waiting=None,
    control_request=None,
    steps=[
        schemas.RunStepAnswer(
            app="shop",
            name="0004_book_title",
            direction=Direction.FORWARDS,
            state=StepState.APPLIED,
            duration_ms=237,
            error=None,
        )
    ],
    error=None,
    created_at="2026-11-23T18:03:19.159540Z",
    started_at="2026-11-23T18:03:23.149824Z",
    finished_at="2026-11-23T18:03:24.564572Z",
    build=_BUILD,
    last_event=20,
)

QUEUED_RUN = replace(
    SUCCEEDED_RUN,
    state=RunState.QUEUED,
    outcome=None,
    ended=False,
    steps=[
        replace(step, state=StepState.NOT_STARTED, duration_ms=None)
        for step in SUCCEEDED_RUN.steps
    ],
    started_at=None,
    finished_at=None,
    last_event=0,
)

RUNS = schemas.RunsAnswer(runs=[SUCCEEDED_RUN], next=None)

PROBLEMS: dict[int, schemas.Problem] = {
    error.http_status: problem_answer(error)
    for error in (
        InvalidRequest("limit must be between 1 and 200."),
        Unauthenticated(),
        Forbidden(),
        UnknownDatabase(),
        MethodNotAllowed(
            "This URL accepts GET, HEAD, OPTIONS.", allow="GET, HEAD, OPTIONS"
        ),
        PlanChanged(),
        TooLarge(),
        IdempotencyMismatch(),
        FingerprintRequired(),
        TooManyAttempts(),
        RouteError(),
        DatabaseUnavailable(),
    )
}
"""One possible error for each status that the API documents."""
