"""Converts values of the application to the types of the wire."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, TypeVar, assert_never

import msgspec

from migration_route.conf import route_settings
from migration_route.core import clock
from migration_route.core.canonical_json import to_plain
from migration_route.core.clock import format_time, parse_time
from migration_route.core.enums import ApprovalDecision, RunState
from migration_route.core.redaction import clipped
from migration_route.core.values import (
    ApprovalRequirement,
    Blocked,
    Forecast,
    RecordedDecision,
    TableLock,
)
from migration_route.ledger.hashchain import ChainHead
from migration_route.ledger.records import EntryRecord, EventPage, EventRecord, RunRecord
from migration_route.ledger.rehearsals import RehearsalRecord
from migration_route.ledger.verification import Verification
from migration_route.planning import sources
from migration_route.planning.plan import DatabaseStatus, Deferred, Plan, Step
from migration_route.policy.approvals import valid_approvals
from migration_route.policy.schedule import (
    HealthDecision,
    NeverOpens,
    OpenNow,
    OpensLater,
    Pause,
    Schedule,
)
from migration_route.presentation import schemas
from migration_route.presentation.text.problems import problem_answer
from migration_route.presentation.text.rehearsals import summary

Wire = TypeVar("Wire", bound=msgspec.Struct)


def _wire(kind: type[Wire], value: Any, **fields: Any) -> Wire:
    """Return a value as a type of the wire, whose fields are those of the value with the
    same names, except for the given ones."""
    return msgspec.convert(to_plain(value) | fields, kind, from_attributes=True)


def _requester(record: RunRecord | RehearsalRecord | EntryRecord) -> schemas.ActorAnswer:
    return schemas.ActorAnswer(kind=record.actor_kind, name=record.actor_name)


def with_approval_requirement(
    plan: schemas.PlanAnswer, requirement: ApprovalRequirement | None
) -> schemas.PlanAnswer:
    return msgspec.structs.replace(
        plan, approval=requirement and approval_requirement_answer(requirement)
    )


def approval_requirement_answer(
    requirement: ApprovalRequirement,
) -> schemas.ApprovalRequirementAnswer:
    return msgspec.convert(requirement.to_dict(), schemas.ApprovalRequirementAnswer)


def approval_answer(run: RunRecord) -> schemas.ApprovalAnswer | None:
    """Return the approvals that a run needs or needed; None if it needs none."""
    requirement = run.approval_requirement
    if requirement is None:
        return None
    by = valid_approvals(requirement, run.given, requester=run.requester)
    rejections = _sayings(run.given, ApprovalDecision.REJECT)
    return _wire(
        schemas.ApprovalAnswer,
        requirement,
        given=len(by),
        by=_sayings(by, ApprovalDecision.APPROVE),
        expires=run.waiting_until
        if run.state is RunState.AWAITING_APPROVAL
        else format_time(parse_time(run.created_at) + requirement.lifetime),
        rejected=rejections[0] if rejections else None,
    )


def _sayings(
    given: Iterable[RecordedDecision], what: ApprovalDecision
) -> list[schemas.ApprovalDecisionAnswer]:
    return [
        schemas.ApprovalDecisionAnswer(
            kind=one.by.kind, name=one.by.name, at=one.at, reason=one.reason
        )
        for one in given
        if one.decision is what
    ]


# The lock modes of each database, from weak to strong.
_MODES = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
    "NONE",
    "SHARED",
    "RESERVED",
    "EXCLUSIVE",
)


def forecast_answer(forecast: Forecast) -> schemas.ForecastAnswer:
    locks = [
        _wire(schemas.TableLockAnswer, lock, blocks=_in_order(lock.blocks))
        for lock in forecast.locks
    ]
    return _wire(schemas.ForecastAnswer, forecast, locks=locks)


def strongest_lock(step: Step) -> str | None:
    """Return the mode of the strongest lock that is forecast for a step."""
    return max((lock.mode for lock in _locks(step)), key=_MODES.index, default=None)


def blocked_by(step: Step) -> list[str]:
    """Return what a step is forecast to block, readers first."""
    return _in_order({who for lock in _locks(step) for who in lock.blocks})


def _locks(step: Step) -> list[TableLock]:
    return [
        lock
        for operation in step.operations
        for forecast in operation.forecasts or ()
        for lock in forecast.locks
    ]


def _in_order(blocks: Iterable[Blocked]) -> list[str]:
    return [str(who) for who in Blocked if who in set(blocks)]


def opening_answer(found: Schedule) -> schemas.OpeningAnswer:
    match found:
        case OpenNow():
            return schemas.OpeningAnswer(
                at=None, reason="now", why="The run can start now."
            )
        case OpensLater(at=at, reason=reason, why=why):
            return schemas.OpeningAnswer(at=clock.format_time(at), reason=reason, why=why)
        case NeverOpens(why=why):
            return schemas.OpeningAnswer(at=None, reason="never", why=why)
        case _:
            assert_never(found)


def with_opening(answer: schemas.PlanAnswer, found: Schedule) -> schemas.PlanAnswer:
    """Return the plan with the earliest start of its run."""
    return msgspec.structs.replace(answer, opening=opening_answer(found))


_MOST_STATEMENTS = 1000  # of one operation
_LONGEST_STATEMENT = 20_000


def plan_answer(plan: Plan) -> schemas.PlanAnswer:
    return _wire(
        schemas.PlanAnswer,
        plan,
        steps=[_plan_step(step) for step in plan.steps],
        deferred=[deferred_answer(left) for left in plan.deferred],
        expected_ms=plan.expected_ms,
        expected_unknown=plan.expected_unknown,
    )


def _plan_step(step: Step) -> schemas.PlanStepAnswer:
    return _wire(
        schemas.PlanStepAnswer,
        step,
        phase=step.phase.phase,
        phase_source=step.phase.source,
        phase_why=step.phase.why,
        waits_for=step.phase.waits_for or None,
        operations=[
            _wire(
                schemas.OperationAnswer,
                operation,
                sql=None if operation.sql is None else _statements(operation.sql),
                forecasts=None
                if operation.forecasts is None
                else list(map(forecast_answer, operation.forecasts)),
            )
            for operation in step.operations
        ],
        lock=strongest_lock(step),
        blocks=blocked_by(step),
    )


def _statements(sql: tuple[str, ...]) -> list[str]:
    """Return the statements of an operation, with secrets masked, limited in number and
    length."""
    shown = [clipped(statement, _LONGEST_STATEMENT) for statement in sql[:_MOST_STATEMENTS]]
    if left_out := len(sql) - len(shown):
        shown.append(f"-- {left_out} more statements")
    return shown


def deferred_answer(left: Deferred) -> schemas.DeferredAnswer:
    return _wire(
        schemas.DeferredAnswer,
        left,
        phase=left.phase.phase,
        why=" ".join(filter(None, (left.why, left.phase.why))),
        since=left.since or None,
        by=left.by or None,
        waits_for=left.phase.waits_for or None,
    )


def run_answer(run: RunRecord) -> schemas.RunAnswer:
    return _wire(
        schemas.RunAnswer,
        run,
        outcome=run.outcome or None,
        ended=not run.is_active,
        requested_by=_requester(run),
        waiting=_waiting(run) if run.waiting_reason else None,
        control_request=run.control_request or None if run.is_active else None,
        started_at=run.started_at or None,
        finished_at=run.finished_at or None,
        at=run.not_before or None,
        deferred=_recorded_deferred(run),
        approval=approval_answer(run),
        resumes=run.resumes or None,
        expected_ms=run.expected_ms,
        expected_unknown=run.expected_unknown,
        remaining_ms=run.remaining_ms(clock.now()),
        ledger_head=_head(run.head),
    )


def _head(head: ChainHead | None) -> str | None:
    return None if head is None else str(head)


def _recorded_deferred(run: RunRecord) -> list[schemas.DeferredAnswer]:
    return [
        _wire(schemas.DeferredAnswer, left, since=None, by=left.build, overdue=False)
        for left in run.deferred
    ]


def recorded_plan_answer(run: RunRecord) -> schemas.RecordedPlanAnswer:
    return _wire(schemas.RecordedPlanAnswer, run, deferred=_recorded_deferred(run))


def recorded_approvals_answer(run: RunRecord) -> schemas.RecordedApprovalsAnswer:
    requirement = run.approval_requirement
    return schemas.RecordedApprovalsAnswer(
        requirement=None
        if requirement is None
        else approval_requirement_answer(requirement),
        decisions=[
            _wire(schemas.RecordedDecisionAnswer, one, permissions=sorted(one.permissions))
            for one in run.given
        ],
    )


def _waiting(run: RunRecord) -> schemas.WaitingAnswer:
    return _wire(
        schemas.WaitingAnswer,
        run.waiting_facts,
        reason=run.waiting_reason,
        until=run.waiting_until or None,
    )


def health_answer(
    database: str, moment: HealthDecision, ignored: Iterable[str]
) -> schemas.HealthAnswer:
    return schemas.HealthAnswer(
        database=database,
        verdict="pause" if isinstance(moment, Pause) else "go",
        signals=[_wire(schemas.SignalAnswer, signal) for signal in moment.signals],
        ignored=sorted(ignored),
    )


def terminated_blockers_answer(
    run: str,
    terminated: Iterable[dict[str, Any]],
    not_terminated: Iterable[tuple[int, str]],
) -> schemas.TerminatedBlockersAnswer:
    return schemas.TerminatedBlockersAnswer(
        run=run,
        terminated=msgspec.convert(list(terminated), list[schemas.BlockerAnswer]),
        not_terminated=[
            schemas.NotTerminatedAnswer(pid=pid, why=why) for pid, why in not_terminated
        ],
    )


def runs_answer(runs: list[RunRecord], *, limit: int) -> schemas.RunsAnswer:
    more = runs[-1].id if len(runs) == limit else None
    return schemas.RunsAnswer(runs=[run_answer(run) for run in runs], next=more)


def event_answer(event: EventRecord) -> schemas.EventAnswer:
    return schemas.EventAnswer(**event.words())


def events_answer(page: EventPage) -> schemas.EventsAnswer:
    return schemas.EventsAnswer(
        events=[event_answer(event) for event in page.events],
        last=page.last,
        ended=page.ended,
    )


def status_answer(databases: list[DatabaseStatus]) -> schemas.StatusAnswer:
    return schemas.StatusAnswer(
        build=sources.build(),
        ledger_database=route_settings().ledger_database,
        databases=[
            _wire(
                schemas.DatabaseAnswer,
                replace(found, problem=None),
                pending=None if found.pending is None else len(found.pending),
                pending_migrations=list(found.pending or ()),
                required=None if found.required is None else len(found.required),
                required_migrations=list(found.required or ()),
                deferred=[deferred_answer(left) for left in found.later],
                active_state=found.active_state or None,
                needs_resolution=found.unresolved_run,
                problem=problem_answer(found.problem) if found.problem else None,
                active_waiting=schemas.ActiveWaitingAnswer(
                    reason=found.active_waits_for, until=found.active_until or None
                )
                if found.active_waits_for
                else None,
            )
            for found in databases
        ],
    )


def entry_answer(entry: EntryRecord) -> schemas.EntryAnswer:
    return _wire(schemas.EntryAnswer, entry, actor=_requester(entry), run=entry.run or None)


def entries_answer(entries: list[EntryRecord], *, limit: int) -> schemas.EntriesAnswer:
    more = entries[-1].sequence if len(entries) == limit else None
    return schemas.EntriesAnswer(
        entries=[entry_answer(entry) for entry in entries], next=more
    )


def verification_answer(found: Verification) -> schemas.VerificationAnswer:
    return schemas.VerificationAnswer(
        intact=found.intact,
        entries=found.entries,
        broken=found.broken.sequence if found.broken else None,
        message=found.broken.message if found.broken else "",
        ledger_head=_head(found.head),
    )


def rehearsal_answer(record: RehearsalRecord) -> schemas.RehearsalAnswer:
    return _wire(
        schemas.RehearsalAnswer,
        record,
        ended=not record.is_active,
        requested_by=_requester(record),
        started_at=record.started_at or None,
        finished_at=record.finished_at or None,
        copy_removed=record.is_removed,
        longest_lock=record.report.longest_lock(),
        report=None if record.is_active else record.report,
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
    if record is None:
        return answer
    rehearsed = _wire(
        schemas.RehearsalSummaryAnswer,
        record,
        finished_at=record.finished_at or None,
        summary=summary(rehearsal_answer(record)),
    )
    return msgspec.structs.replace(answer, rehearsed=rehearsed)
