"""Requests and responses about rehearsals."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from migration_route.core.enums import CopyKind, Phase
from migration_route.presentation.schemas.plans import Answer
from migration_route.presentation.schemas.requests import (
    Alias,
    Name,
    Reason,
    Request,
    TargetName,
)
from migration_route.presentation.schemas.runs import ActorAnswer, StepErrorAnswer


class CreateRehearsal(Request, frozen=True, kw_only=True):
    """`POST rehearsals`: rehearse the plan with this fingerprint on a copy.

    With `in_place`, on the database itself, in one transaction that is rolled back.
    """

    database: Alias = "default"
    targets: Annotated[list[TargetName], Meta(max_length=100)] = field(default_factory=list)
    fingerprint: Name = ""
    phase: Phase | None = None
    kind: CopyKind = CopyKind.SCHEMA
    round_trip: bool = False
    in_place: bool = False
    reason: Reason = ""


class SeenLockAnswer(Answer, frozen=True, kw_only=True):
    """A lock that was taken; `held_ms` lasts until the end of its step."""

    table: str
    mode: str
    blocks: list[str]
    held_ms: int | None


class SeenStatementAnswer(Answer, frozen=True, kw_only=True):
    """A statement that was executed; `locks` is null if they could not be observed.

    Queries of Python code with the same text are combined: `duration_ms` is then that of
    the slowest.
    """

    sql: str
    duration_ms: int
    times: int
    total_ms: int
    rows: int | None
    locks: list[SeenLockAnswer] | None
    rewrites: list[str]
    failed: bool


class SeenOperationAnswer(Answer, frozen=True, kw_only=True):
    """An operation that was executed.

    `queries` counts all queries that it sent; of these, `distinct` differ and `omitted` are
    not listed.
    """

    position: int | None
    description: str
    duration_ms: int
    runs_python: bool
    queries: int
    distinct: int
    omitted: int
    statements: list[SeenStatementAnswer]


class SeenStepAnswer(Answer, frozen=True, kw_only=True):
    """A step that was executed.

    `sql_differences`: the statements that differ from the SQL of the plan, without values.
    """

    app: str
    name: str
    direction: str
    state: str
    duration_ms: int | None
    operations: list[SeenOperationAnswer]
    sql_differences: list[str]
    error: StepErrorAnswer | None


class LimitAnswer(Answer, frozen=True, kw_only=True):
    """Something that the rehearsal could not cover, and why."""

    code: str
    message: str
    step: str | None


class ReportAnswer(Answer, frozen=True, kw_only=True):
    """The results of a rehearsal.

    `differences`: lines of the schema that differ after the round trip; null if it was not
    compared.
    """

    steps: list[SeenStepAnswer]
    back: list[SeenStepAnswer] | None
    differences: list[str] | None
    limits: list[LimitAnswer]
    copy_ms: int | None
    duration_ms: int | None
    output: list[str]


class RehearsalAnswer(Answer, frozen=True, kw_only=True):
    """A rehearsal of a plan, on a copy or in place.

    `copy_removed` is about the copy. A rehearsal that succeeded left `unrehearsed` of its
    `steps` out.
    """

    id: str
    database: str
    state: str
    ended: bool
    kind: str
    round_trip: bool
    in_place: bool
    direction: str
    targets: list[str]
    phase: str | None
    fingerprint: str
    requested_by: ActorAnswer
    reason: str
    build: str
    created_at: str
    started_at: str | None
    finished_at: str | None
    error: StepErrorAnswer | None
    copy_removed: bool
    longest_lock: SeenLockAnswer | None
    report: ReportAnswer | None
    duration_ms: int | None = None
    steps: int = 0
    unrehearsed: int = 0


class RehearsalsAnswer(Answer, frozen=True, kw_only=True):
    """Rehearsals, newest first, without reports; `next` is the cursor of the next page."""

    rehearsals: list[RehearsalAnswer]
    next: str | None
