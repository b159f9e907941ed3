"""Runs, plans and status as lines of text.

The server may be older or newer than this code: unknown values are printed as they are.
"""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.core.enums import (
    SCHEDULE_REASONS,
    Direction,
    EffectState,
    EventKind,
    Mode,
    Phase,
    Resolution,
    RunState,
    StepState,
    WaitingReason,
)
from migration_route.core.values import APPROVE, ApprovalRequirement
from migration_route.presentation import schemas
from migration_route.presentation.text.plans import (
    duration_words,
    estimate_line,
    expected_line,
    finding_lines,
    operation_lines,
    risk_line,
)
from migration_route.presentation.text.problems import problem_line

Requirement = (
    ApprovalRequirement | schemas.ApprovalRequirementAnswer | schemas.ApprovalAnswer
)


def approval_requirement_words(requirement: Requirement, *, verb: str = "needs") -> str:
    """Return what is required and why: "needs 1 approval by another user …"."""
    other = "" if requirement.self_approval else "other "
    if requirement.required == 1:
        who = f"1 approval by {'a user' if requirement.self_approval else 'another user'}"
    else:
        who = f"{requirement.required} approvals by different {other}users"
    return f"{verb} {who} with {permission_words(requirement)}, because {requirement.why}"


def permission_words(requirement: Requirement) -> str:
    """Return the permissions that are required."""
    return " and ".join(
        "the permission approve"
        if permission == APPROVE
        else f"the permission {permission}"
        for permission in requirement.permissions
    )


def approval_lines(found: schemas.ApprovalAnswer | None) -> Iterator[str]:
    """Yield which approvals a run needs and who gave them."""
    if found is None:
        return
    yield f"  {approval_requirement_words(found)}"
    yield f"  approved by {found.given} of {found.required}, expires {found.expires[:19]}Z"
    for one in found.by:
        yield f"    {one.name} at {one.at[:19]}Z{_because(one)}"
    if found.rejected:
        yield f"  rejected by {found.rejected.name}{_because(found.rejected)}"


def _because(one: schemas.ApprovalDecisionAnswer) -> str:
    return f": {one.reason}" if one.reason else ""


def opening_lines(found: schemas.OpeningAnswer | None) -> Iterator[str]:
    """Yield when a run would start; nothing if that is now or unknown."""
    if found is not None and found.reason == "never":
        yield f"A run would be refused. {found.why}"
    elif found is not None and found.at:
        yield f"A run would wait. {found.why}"


def waits_until(waiting: schemas.ActiveWaitingAnswer | None) -> str:
    """Return what a run waits for, in parentheses; "" if it does not wait."""
    if waiting is None:
        return ""
    until = f" until {waiting.until[:19]}Z" if waiting.until else ""
    return f" ({waiting.reason}{until})"


def waits_for(run: schemas.RunAnswer) -> str:
    """Return why a run does not start yet; "" if it has started."""
    waiting = run.waiting
    if waiting is None:
        return ""
    if waiting.reason == WaitingReason.NO_WORKER:
        return "  waits for a worker: no process has claimed it yet"
    if waiting.reason in SCHEDULE_REASONS:
        return f"  waits ({waiting.reason}): {waiting.why}"
    return ""


_Named = schemas.DeferredAnswer | schemas.PlanStepAnswer | schemas.RunStepAnswer
_MANY = 20
_NOT_ROLLED_BACK = "can be left partially applied if it fails or is cancelled"


def status_lines(status: schemas.StatusAnswer) -> Iterator[str]:
    for found in status.databases:
        if not found.reachable:
            yield f"{found.database} ({found.vendor}): unreachable"
            if found.problem:
                yield f"  {found.problem.code}: {problem_line(found.problem)}"
            continue
        count = "?" if found.pending is None else str(found.pending)
        yield f"{found.database} ({found.vendor}): {count} pending, {found.applied} applied"
        if found.deferred:
            yield f"  {found.required or 0} required now, the rest after the deploy"
            yield from (f"  {_label(left)}: {_when(left)}" for left in found.deferred)
        names = found.pending_migrations
        yield from (f"  {name}" for name in names[:_MANY])
        if len(names) > _MANY:
            yield f"  … and {len(names) - _MANY} more"
        if found.ahead:
            yield f"  applied but missing from this code: {', '.join(found.ahead)}"
        if found.active_run:
            waits = waits_until(found.active_waiting)
            yield f"  run {found.active_run} is {found.active_state or 'active'}{waits}"
        if found.needs_resolution:
            yield f"  run {found.needs_resolution} is partial and must be resolved"
        if found.problem:
            yield f"  {found.problem.code}: {problem_line(found.problem)}"


def plan_lines(
    plan: schemas.PlanAnswer, *, has_details: bool = True, has_sql: bool = False
) -> Iterator[str]:
    """Yield the steps of a plan with their operations, and its findings.

    Without details, the plan has not all of its findings, so its risk is not known.
    """
    if plan.direction == Direction.NONE:
        yield f"Nothing to do on {plan.database}."
    else:
        count = f"{len(plan.steps)} step{'s' if len(plan.steps) > 1 else ''}"
        mode = "" if plan.mode == Mode.APPLY else f" ({plan.mode})"
        phase = f", {plan.phase}" if plan.phase else ""
        expected = "".join(f", {line}" for line in filter(None, [expected_line(plan)]))
        start = f"{plan.database} ({plan.vendor}), {plan.direction}{phase}"
        yield f"{start}, {count}{mode}{expected}"
        yield from [risk_line(plan)] if has_details else ()
    for step in plan.steps:
        marks = [] if step.rolls_back else [_NOT_ROLLED_BACK]
        marks += [] if step.reversible else ["irreversible"]
        marks += [] if step.phase == Phase.ANY else [step.phase]
        marks += filter(None, [estimate_line(step.estimate)])
        yield f"  {_label(step)}{_bracketed(marks)}"
        for operation in step.operations:
            yield f"    {operation.description}{' (runs code)' if operation.opaque else ''}"
            yield from (f"      {line}" for line in operation_lines(operation, plan.tables))
            if has_sql:
                yield from (f"      {statement}" for statement in operation.sql or ())
    for left in plan.deferred:
        yield f"  deferred: {_label(left)}: {_when(left)}. {left.why}"
    yield from finding_lines(plan.findings)
    yield from map(approval_requirement_words, filter(None, [plan.approval]))
    yield f"fingerprint {plan.fingerprint}"
    if plan.rehearsed:
        yield plan.rehearsed.summary
    yield from opening_lines(plan.opening)


def _label(of: _Named) -> str:
    return f"{of.app}.{of.name}"


def _when(left: schemas.DeferredAnswer) -> str:
    """Return the phase of a step, and since when it is deferred."""
    phase = left.phase if not left.waits_for else Phase.AFTER_DEPLOY
    if not left.since:
        return phase
    overdue = ", overdue" if left.overdue else ""
    return f"{phase}, deferred since {left.since[:19]}Z{overdue}"


def health_lines(found: schemas.HealthAnswer) -> Iterator[str]:
    verdict = "a run can proceed" if found.verdict == "go" else "a run would pause"
    yield f"{found.database}: {verdict}"
    for signal in found.signals:
        ignored = " (ignored)" if signal.name in found.ignored else ""
        yield f"  {signal.state:<8} {signal.name}{ignored}: {signal.reason}"


def run_lines(run: schemas.RunAnswer) -> Iterator[str]:
    """Yield the lines of a run with the progress of each step."""
    outcome = f" ({run.outcome})" if run.outcome and run.outcome != run.state else ""
    yield f"run {run.id} on {run.database}: {run.state}{outcome}"
    yield f"  by {_who(run)} at {run.created_at}"
    yield from _phase_lines(run)
    lines = (run.reason and f"reason: {run.reason}", remaining_line(run))
    yield from (f"  {line}" for line in lines if line)
    if run.waiting:
        yield from _waiting_lines(run.waiting)
    yield from approval_lines(run.approval)
    if run.control_request:
        yield f"  requested: {run.control_request}"
    if run.state == RunState.CANCELLING:
        yield f"  {cancel_effect(run)}"
    for step in run.steps:
        time = "" if step.duration_ms is None else f"  {duration_words(step.duration_ms)}"
        yield f"  {step.state:<12} {_label(step)}{time}"
        if step.error:
            operation = step.error.operation
            where = "" if operation is None else f"operation {operation + 1}: "
            yield f"    {where}{step.error.type}: {step.error.message}"
        for found in step.operations or ():
            yield f"    {found.state:<8} {found.position + 1}. {found.description}"
    is_cancelled = run.error is not None and run.error.type == "Cancelled"
    if run.error and (is_cancelled or not any(step.error for step in run.steps)):
        yield f"  {run.error.type}: {run.error.message}"
    if run.state == RunState.PARTIAL:
        yield f"  The database is partially migrated. {what_to_do(run)}"
    if run.ledger_head:
        yield f"Ledger head: {run.ledger_head}"


def remaining_line(run: schemas.RunAnswer) -> str:
    """Return the expected duration of a run, and how much of it is left; "" if unknown."""
    line, left = expected_line(run), run.remaining_ms
    return f"{line}, {duration_words(left)} left" if line and left is not None else line


def cancel_effect(run: schemas.RunAnswer) -> str:
    """Return what a cancel does to the step that is running."""
    step = next((one for one in run.steps if one.state == StepState.APPLYING), None)
    if step is None:
        following = next(
            (one for one in run.steps if one.state == StepState.NOT_STARTED), None
        )
        before = "" if following is None else f" before {_label(following)}"
        return f"No step is running: the run ends{before}. What is applied stays applied."
    running = f"{_label(step)} is running: its statement is cancelled"
    if step.rolls_back:
        return (
            f"{running}, and the database rolls the step back as a whole. What is applied "
            "stays applied."
        )
    return (
        f"{running}, and the database does not roll the step back as a whole. The step can "
        f"be left partially applied; no other run then starts on {run.database} until a "
        "user resolves this one."
    )


def _who(run: schemas.RunAnswer) -> str:
    return run.requested_by.name or run.requested_by.kind


def _phase_lines(run: schemas.RunAnswer) -> Iterator[str]:
    if run.phase:
        yield f"  phase: {run.phase}"
        yield from (f"  deferred: {_label(left)}. {left.why}" for left in run.deferred)


def suggested_resolution(run: schemas.RunAnswer) -> Resolution:
    """Return the resolution that the evidence about the stopped step suggests."""
    step = next((step for step in run.steps if step.operations), None)
    states = {found.state for found in step.operations or ()} if step else set()
    if step and states == {EffectState.PRESENT}:
        is_back = step.direction == Direction.BACKWARDS
        return Resolution.REVERTED if is_back else Resolution.APPLIED
    if step and not step.rolls_back and EffectState.UNKNOWN not in states:
        return Resolution.CONTINUE
    return Resolution.AS_IS


_WHAT_TO_DO = {
    Resolution.APPLIED: (
        "All of the step is applied, and only the record is missing: resolve this run as "
        "applied, with a reason."
    ),
    Resolution.REVERTED: (
        "All of the step is reverted, and only the record is missing: resolve this run as "
        "reverted, with a reason."
    ),
    Resolution.CONTINUE: (
        "Resolve this run to continue after the last operation that is present, or repair "
        "the database first and resolve it then; with a reason."
    ),
    Resolution.AS_IS: "Repair the database, then resolve this run with a reason.",
}


def what_to_do(run: schemas.RunAnswer) -> str:
    """Return how a partial run can be resolved, by the evidence about it."""
    return _WHAT_TO_DO[suggested_resolution(run)]


def terminated_blockers_lines(
    found: schemas.TerminatedBlockersAnswer,
) -> Iterator[str]:
    for blocker in found.terminated:
        yield f"terminated: pid {blocker.pid} ({blocker.user or 'unknown'})"
    for left in found.not_terminated:
        yield f"not terminated: pid {left.pid}. {left.why}"


def _waiting_lines(waiting: schemas.WaitingAnswer) -> Iterator[str]:
    yield f"  waiting: {waiting.reason}"
    if waiting.why:
        yield f"    {waiting.why}"
    for signal in waiting.signals:
        yield f"    {signal.state}: {signal.name}: {signal.reason}"
    if waiting.gives_up:
        yield f"    next check at {waiting.until}, gives up at {waiting.gives_up}"
    if waiting.attempt:
        yield (
            f"    for locks on {', '.join(waiting.tables)}: attempt {waiting.attempt}, "
            f"others blocked for {waiting.blocking_ms / 1000:.1f} s"
        )
        yield from map(_blocker_line, waiting.blockers)
    if session := waiting.session:
        yield f"  session {session.pid} since {session.since}: {session.query}"


def _blocker_line(blocker: schemas.BlockerAnswer) -> str:
    who = ", ".join(filter(None, (blocker.user, blocker.application)))
    since = f" since {blocker.since[:19]}Z" if blocker.since else ""
    certainty = "" if blocker.certain else "possibly "
    query = " ".join(blocker.query.split())[:100]
    return f"    {certainty}pid {blocker.pid} ({who}) {blocker.state}{since}: {query}"


_EVENT_LINES: dict[str, str] = {
    EventKind.OUTPUT: "  | {text}",
    EventKind.OUTPUT_TRUNCATED: "  | {text}",
    EventKind.STEP_STARTED: "{text} …",
    EventKind.STEP_FINISHED: "{text} done{time}",
    EventKind.OPERATION_STARTED: "  {text}",
    EventKind.STATEMENT_RUNNING: "  still running: {text:.200}",
    EventKind.PROGRESS: "    {text}",
    EventKind.ERROR: "  {text}",
    EventKind.LOCK_ATTEMPT: "  {text}",
    EventKind.HEALTH: "  {text}",
    EventKind.WINDOW: "  {text}",
}


def event_line(event: schemas.EventAnswer) -> str | None:
    """Return an event as one line; None if it is not shown."""
    took = event.duration_ms
    time = "" if took is None else f" ({duration_words(took)})"
    line = _EVENT_LINES.get(event.kind)
    return None if line is None else line.format(text=event.text, time=time)


def runs_lines(found: schemas.RunsAnswer) -> Iterator[str]:
    for run in found.runs:
        yield (
            f"{run.id}  {run.created_at[:19]}Z  {run.database:<12} {run.state:<11} "
            f"{len(run.steps)} steps  {_who(run)}"
        )


def _bracketed(marks: list[str]) -> str:
    return f"  [{', '.join(marks)}]" if marks else ""
