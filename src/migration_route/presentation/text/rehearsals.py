"""Rehearsals as lines of text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from migration_route.core.enums import CopyKind
from migration_route.presentation import schemas

_WORDS = 110


class Timed(Protocol):
    """A statement, stored or on the wire, with the times that it took."""

    @property
    def duration_ms(self) -> int: ...
    @property
    def times(self) -> int: ...
    @property
    def total_ms(self) -> int: ...


class Counted(Protocol):
    """An operation, stored or on the wire, with the queries that it sent."""

    @property
    def queries(self) -> int: ...
    @property
    def distinct(self) -> int: ...
    @property
    def omitted(self) -> int: ...


def summary(found: schemas.RehearsalAnswer) -> str:
    """Return a rehearsal in one line, as shown next to its plan."""
    kind = "in place" if found.in_place else copy_words(found.kind)
    if not found.ended:
        return f"rehearsal, {kind}: {found.state}"
    when = f"{(found.finished_at or '')[:16].replace('T', ' ')} UTC"
    if found.error is not None:
        # These two say more about the environment than about the plan.
        is_interrupted = found.error.type in {"InPlaceTimeout", "LockUnavailable"}
        how = f"interrupted ({found.error.type})" if is_interrupted else "failed"
        return f"rehearsed at {when}, {kind}: {how}"
    parts = [f"rehearsed at {when}", kind]
    if found.unrehearsed:
        parts.append(f"only {found.steps - found.unrehearsed} of {found.steps} steps")
    parts.append(f"{(found.duration_ms or 0) / 1000:.1f} s")
    if longest := found.longest_lock:
        parts.append(
            f"longest lock {longest.mode} on {longest.table}, {longest.held_ms} ms"
        )
    return ", ".join(parts)


def copy_words(kind: str) -> str:
    """Return what a copy contains."""
    return "with data" if kind == CopyKind.DATA else "schema only"


def rehearsal_lines(found: schemas.RehearsalAnswer) -> Iterator[str]:
    """Yield the lines of a rehearsal with its report."""
    where = "in place, rolled back, on" if found.in_place else "on a copy of"
    yield f"rehearsal {found.id} {where} {found.database}: {found.state}"
    yield f"  {summary(found)}"
    if found.error:
        yield f"  {found.error.type}: {_one_line(found.error.message)}"
    if found.report:
        yield from _report_lines(found.report)
    yield f"fingerprint {found.fingerprint}"


def rehearsals_lines(found: schemas.RehearsalsAnswer) -> Iterator[str]:
    for each in found.rehearsals:
        yield (
            f"{each.id}  {each.created_at[:19]}Z  {each.database:<12} "
            f"{each.state:<10} {summary(each)}"
        )


def _report_lines(report: schemas.ReportAnswer) -> Iterator[str]:
    for step in report.steps:
        yield from _step_lines(step)
    if report.back is not None:
        yield "  reversed"
        for step in report.back:
            yield from _step_lines(step)
    if report.differences == []:
        yield "  schema after the round trip: unchanged"
    for line in report.differences or ():
        yield f"  schema differs: {line}"
    if report.limits:
        yield "  not covered:"
    for limit in report.limits:
        where = f"{limit.step}: " if limit.step else ""
        yield f"    {where}{limit.message}"


def _step_lines(step: schemas.SeenStepAnswer) -> Iterator[str]:
    took = "" if step.duration_ms is None else f"  {step.duration_ms} ms"
    yield f"  {step.state:<12} {step.app}.{step.name}{took}"
    if step.error:
        position = step.error.operation
        where = "" if position is None else f"operation {position + 1}: "
        yield f"    {where}{step.error.type}: {_one_line(step.error.message)}"
    for line in step.sql_differences:
        yield f"    SQL differs from the plan: {line}"
    for operation in step.operations:
        yield from _operation_lines(operation)


def _operation_lines(operation: schemas.SeenOperationAnswer) -> Iterator[str]:
    yield f"    {operation.description}  {operation.duration_ms} ms"
    if operation.runs_python:
        yield f"      {queries(operation)}"
    for statement in operation.statements:
        sql = " ".join(statement.sql.split())[:_WORDS]
        yield f"      {took(statement)}{facts(statement)}: {sql}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def took(statement: Timed) -> str:
    """Return how long a statement took, and how often it was sent."""
    if statement.times == 1:
        return f"{statement.duration_ms} ms"
    return (
        f"{statement.times} times, {statement.total_ms} ms in total, "
        f"{statement.duration_ms} ms at most"
    )


def queries(operation: Counted) -> str:
    """Return how many queries Python code sent."""
    count, distinct = operation.queries, operation.distinct
    if not count:
        return "no queries"
    counts = f"{count} {'query' if count == 1 else 'queries'}, {distinct} distinct"
    return f"{counts}; slowest shown" if operation.omitted else counts


def facts(statement: schemas.SeenStatementAnswer) -> str:
    """Return what a statement did, without its time."""
    rows = "row" if statement.rows == 1 else "rows"
    parts = [] if statement.rows is None else [f", {statement.rows} {rows}"]
    for lock in statement.locks or ():
        held = "" if lock.held_ms is None else f" for {lock.held_ms} ms"
        parts.append(f", {lock.mode} on {lock.table}{held}")
    parts += [f", rewrites {table}" for table in statement.rewrites]
    parts += [", failed"] if statement.failed else []
    return "".join(parts)
