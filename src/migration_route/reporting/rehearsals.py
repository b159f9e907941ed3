"""How does a rehearsal look on the wire and read on a terminal?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from migration_route import wire
from migration_route.ledger.rehearsal_records import RehearsalRecord
from migration_route.ledger.rehearsal_report import SeenOperation, SeenStatement, SeenStep
from migration_route.vocabulary import CopyKind, RehearsalState, StepState

_WORDS = 110


def rehearsal_answer(record: RehearsalRecord) -> wire.RehearsalAnswer:
    """Return a rehearsal."""
    told: dict[str, Any] = msgspec.to_builtins(record.report)
    longest = record.report.longest_lock()
    return wire.RehearsalAnswer(
        id=record.id,
        database=record.database,
        state=record.state,
        ended=not record.is_active,
        kind=record.kind,
        and_back=record.and_back,
        in_place=record.in_place,
        direction=record.direction,
        targets=list(record.targets),
        phase=record.phase,
        fingerprint=record.fingerprint,
        requested_by=wire.ActorAnswer(kind=record.actor_kind, name=record.actor_name),
        reason=record.reason,
        build=record.build,
        created_at=record.created_at,
        started_at=record.started_at or None,
        finished_at=record.finished_at or None,
        error=None
        if record.error is None
        else wire.StepErrorAnswer(**record.error.to_dict()),
        copy_removed=record.is_removed,
        longest_lock=None
        if longest is None
        else msgspec.convert(msgspec.to_builtins(longest), wire.SeenLockAnswer),
        report=None if record.is_active else msgspec.convert(told, wire.ReportAnswer),
    )


def rehearsals_answer(found: list[RehearsalRecord], *, limit: int) -> wire.RehearsalsAnswer:
    """Return a page of rehearsals, without their reports."""
    more = found[-1].id if len(found) == limit else None
    shown = [
        msgspec.structs.replace(rehearsal_answer(record), report=None) for record in found
    ]
    return wire.RehearsalsAnswer(rehearsals=shown, next=more)


def with_rehearsal(
    answer: wire.PlanAnswer, record: RehearsalRecord | None
) -> wire.PlanAnswer:
    """Return the answer with a plan, with its last rehearsal."""
    if record is None:
        return answer
    told = wire.RehearsedAnswer(
        id=record.id,
        state=record.state,
        kind=record.kind,
        in_place=record.in_place,
        finished_at=record.finished_at or None,
        summary=summary(record),
    )
    return msgspec.structs.replace(answer, rehearsed=told)


def summary(record: RehearsalRecord) -> str:
    """Tell a rehearsal in one line, as it stands beside the plan."""
    kind = "with data" if record.kind is CopyKind.DATA else "on the schema alone"
    kind = "in place" if record.in_place else kind
    if record.is_active:
        return f"being rehearsed {kind}: {record.state}"
    when = f"{record.finished_at[:16].replace('T', ' ')} UTC"
    report = record.report
    if record.error is not None:
        # These two tell more of the surroundings than of the plan.
        is_cut_short = record.error.type in {"OutOfTime", "LockTaken"}
        how = f"cut short ({record.error.type})" if is_cut_short else "failed"
        return f"rehearsed at {when}, {kind}: {how}"
    told = [f"rehearsed at {when}", kind]
    if missing := unrehearsed(record):
        told.append(f"only {len(record.steps) - missing} of {len(record.steps)} steps")
    told.append(f"{(report.duration_ms or 0) / 1000:.1f} s")
    if longest := report.longest_lock():
        told.append(f"longest lock {longest.mode} on {longest.table}, {longest.held_ms} ms")
    return ", ".join(told)


def unrehearsed(record: RehearsalRecord) -> int:
    """Return how many steps of one that went through were left out of it."""
    if record.state is not RehearsalState.SUCCEEDED:
        return 0
    return sum(step.state == StepState.NOT_STARTED for step in record.report.steps)


def rehearsal_lines(record: RehearsalRecord) -> Iterator[str]:
    """Tell a rehearsal with its report."""
    where = "in place, rolled back, on" if record.in_place else "on a copy of"
    yield f"rehearsal {record.id} {where} {record.database}: {record.state}"
    yield f"  {summary(record)}"
    if record.error:
        yield f"  {record.error.type}: {_one_line(record.error.message)}"
    for step in record.report.steps:
        yield from _step_lines(step)
    if record.report.back is not None:
        yield "  and back"
        for step in record.report.back:
            yield from _step_lines(step)
    if record.report.differences == ():
        yield "  afterwards the schema was as before"
    for line in record.report.differences or ():
        yield f"  differs afterwards: {line}"
    if record.report.limits:
        yield "  what this could not show:"
    for limit in record.report.limits:
        where = f"{limit.step}: " if limit.step else ""
        yield f"    {where}{limit.message}"
    yield f"fingerprint {record.fingerprint}"


def _step_lines(step: SeenStep) -> Iterator[str]:
    took = "" if step.duration_ms is None else f"  {step.duration_ms} ms"
    yield f"  {step.state:<12} {step.label}{took}"
    if step.error:
        position = step.error.operation
        where = "" if position is None else f"operation {position + 1}: "
        yield f"    {where}{step.error.type}: {_one_line(step.error.message)}"
    for operation in step.operations:
        yield from _operation_lines(operation)


def _operation_lines(operation: SeenOperation) -> Iterator[str]:
    yield f"    {operation.description}  {operation.duration_ms} ms"
    if operation.runs_python:
        yield f"      {queries(operation)}"
    for statement in operation.statements:
        sql = " ".join(statement.sql.split())[:_WORDS]
        yield f"      {took(statement)}{facts(statement)}: {sql}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def took(statement: SeenStatement) -> str:
    """Tell how long a statement took, and how often it was sent."""
    if statement.times == 1:
        return f"{statement.duration_ms} ms"
    return (
        f"{statement.times} times, {statement.total_ms} ms in all, "
        f"{statement.duration_ms} ms at most"
    )


def queries(operation: SeenOperation) -> str:
    """Tell how many queries Python sent."""
    count, distinct = operation.queries, operation.distinct
    if not count:
        return "no queries"
    told = f"{count} {'query' if count == 1 else 'queries'}, {distinct} different"
    return f"{told}; those that took longest" if operation.omitted else told


def facts(statement: SeenStatement) -> str:
    """Tell what a statement did, but for its time."""
    rows = "row" if statement.rows == 1 else "rows"
    told = [] if statement.rows is None else [f", {statement.rows} {rows}"]
    for lock in statement.locks or ():
        held = "" if lock.held_ms is None else f" for {lock.held_ms} ms"
        told.append(f", {lock.mode} on {lock.table}{held}")
    told += [f", rewrites {table}" for table in statement.rewrites]
    told += [", failed"] if statement.failed else []
    return "".join(told)
