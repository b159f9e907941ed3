"""How does a plan look on the wire?"""

from __future__ import annotations

from migration_route import wire
from migration_route.masking import clipped
from migration_route.planning.phases.values import Deferred
from migration_route.planning.plan import Plan, Step
from migration_route.reporting import forecasts

_MOST_STATEMENTS = 1000  # of one operation
_LONGEST_STATEMENT = 20_000


def plan_answer(plan: Plan) -> wire.PlanAnswer:
    """Return a plan."""
    return wire.PlanAnswer(
        database=plan.database,
        vendor=plan.vendor,
        direction=plan.direction,
        mode=plan.mode,
        targets=list(plan.targets),
        fingerprint=plan.fingerprint,
        build=plan.build,
        transactional_ddl=plan.transactional_ddl,
        steps=[_plan_step(step) for step in plan.steps],
        findings=[
            wire.FindingAnswer(
                code=finding.code,
                severity=finding.severity,
                step=finding.step,
                operation=finding.operation,
                message=finding.message,
                hint=finding.hint,
                accepted=finding.accepted,
            )
            for finding in plan.findings
        ],
        details_next=plan.details_next,
        phase=plan.phase,
        deferred=[deferred_answer(left) for left in plan.deferred],
        tables=forecasts.table_answers(plan.tables),
    )


def _plan_step(step: Step) -> wire.PlanStepAnswer:
    return wire.PlanStepAnswer(
        app=step.app,
        name=step.name,
        direction=step.direction,
        atomic=step.atomic,
        reversible=step.reversible,
        rolls_back=step.rolls_back,
        digest=step.digest,
        replaces=list(step.replaces),
        phase=step.phase.phase,
        phase_source=step.phase.source,
        phase_why=step.phase.why,
        waits_for=step.phase.waits_for or None,
        operations=[
            wire.OperationAnswer(
                description=operation.description,
                sql=None if operation.sql is None else _statements(operation.sql),
                opaque=operation.opaque,
                forecasts=None
                if operation.forecasts is None
                else list(map(forecasts.forecast_answer, operation.forecasts)),
            )
            for operation in step.operations
        ],
        lock=forecasts.strongest_lock(step),
        blocks=forecasts.blocked_by(step),
        estimate=forecasts.estimate_answer(step.estimate),
    )


def _statements(sql: tuple[str, ...]) -> list[str]:
    """Return the statements of an operation, their secrets masked, bounded in number and
    length."""
    shown = [clipped(statement, _LONGEST_STATEMENT) for statement in sql[:_MOST_STATEMENTS]]
    if left_out := len(sql) - len(shown):
        shown.append(f"-- {left_out} more statements")
    return shown


def deferred_answer(left: Deferred) -> wire.DeferredAnswer:
    """Return a step that a phase leaves out."""
    return wire.DeferredAnswer(
        app=left.app,
        name=left.name,
        phase=left.phase.phase,
        why=" ".join(filter(None, (left.why, left.phase.why))),
        since=left.since or None,
        by=left.by or None,
        overdue=left.overdue,
        waits_for=left.phase.waits_for or None,
    )
