"""Converts rehearsals to the types of the wire."""

from __future__ import annotations

from typing import Any

import msgspec

from migration_route.ledger.rehearsals import RehearsalRecord
from migration_route.presentation import schemas
from migration_route.presentation.text.rehearsals import summary


def rehearsal_answer(record: RehearsalRecord) -> schemas.RehearsalAnswer:
    report: dict[str, Any] = msgspec.to_builtins(record.report)
    longest = record.report.longest_lock()
    return schemas.RehearsalAnswer(
        id=record.id,
        database=record.database,
        state=record.state,
        ended=not record.is_active,
        kind=record.kind,
        round_trip=record.round_trip,
        in_place=record.in_place,
        direction=record.direction,
        targets=list(record.targets),
        phase=record.phase,
        fingerprint=record.fingerprint,
        requested_by=schemas.ActorAnswer(kind=record.actor_kind, name=record.actor_name),
        reason=record.reason,
        build=record.build,
        created_at=record.created_at,
        started_at=record.started_at or None,
        finished_at=record.finished_at or None,
        error=None
        if record.error is None
        else schemas.StepErrorAnswer(**record.error.to_dict()),
        copy_removed=record.is_removed,
        longest_lock=None
        if longest is None
        else msgspec.convert(msgspec.to_builtins(longest), schemas.SeenLockAnswer),
        report=None if record.is_active else msgspec.convert(report, schemas.ReportAnswer),
        duration_ms=record.report.duration_ms,
        steps=len(record.steps),
        unrehearsed=record.unrehearsed,
    )


def rehearsals_answer(
    found: list[RehearsalRecord], *, limit: int
) -> schemas.RehearsalsAnswer:
    """Return a page of rehearsals, without their reports."""
    more = found[-1].id if len(found) == limit else None
    shown = [
        msgspec.structs.replace(rehearsal_answer(record), report=None) for record in found
    ]
    return schemas.RehearsalsAnswer(rehearsals=shown, next=more)


def with_rehearsal(
    answer: schemas.PlanAnswer, record: RehearsalRecord | None
) -> schemas.PlanAnswer:
    """Return the plan with its last rehearsal."""
    if record is None:
        return answer
    rehearsed = schemas.RehearsalSummaryAnswer(
        id=record.id,
        state=record.state,
        kind=record.kind,
        in_place=record.in_place,
        finished_at=record.finished_at or None,
        summary=summary(rehearsal_answer(record)),
    )
    return msgspec.structs.replace(answer, rehearsed=rehearsed)
