"""How do the route's values look on the wire?"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from migration_route import wire
from migration_route.conf import route_settings
from migration_route.deciding.health import Hold, Moment
from migration_route.ledger.records import (
    EntryRecord,
    EventRecord,
    Happenings,
    RunRecord,
    StepError,
)
from migration_route.ledger.verification import Verification
from migration_route.planning import sources
from migration_route.planning.standing import DatabaseStatus
from migration_route.rendering.problems import problem_answer as problem_answer
from migration_route.reporting.approvals import approval_answer
from migration_route.reporting.plans import deferred_answer


def run_answer(run: RunRecord) -> wire.RunAnswer:
    """Return a run."""
    return wire.RunAnswer(
        id=run.id,
        database=run.database,
        state=run.state,
        outcome=run.outcome or None,
        ended=not run.is_active,
        direction=run.direction,
        mode=run.mode,
        targets=list(run.targets),
        fingerprint=run.fingerprint,
        requested_by=wire.ActorAnswer(kind=run.actor_kind, name=run.actor_name),
        reason=run.reason,
        waiting=_waiting(run) if run.waiting_reason else None,
        asked=run.asked or None if run.is_active else None,
        steps=[
            wire.RunStepAnswer(
                app=step.app,
                name=step.name,
                direction=step.direction,
                state=step.state,
                duration_ms=step.duration_ms,
                error=_step_error(step.error),
                operations=None
                if step.operations is None
                else [
                    wire.OperationEvidenceAnswer(**found.to_dict())
                    for found in step.operations
                ],
                rolls_back=step.rolls_back,
            )
            for step in run.steps
        ],
        error=_step_error(run.error),
        created_at=run.created_at,
        started_at=run.started_at or None,
        finished_at=run.finished_at or None,
        build=run.build,
        last_event=run.last_event,
        at=run.begin_at or None,
        phase=run.phase,
        permit=run.permit,
        deferred=[
            wire.DeferredAnswer(
                app=left.app,
                name=left.name,
                phase=left.phase,
                why=left.why,
                since=None,
                by=left.build,
                overdue=False,
            )
            for left in run.deferred
        ],
        approval=approval_answer(run),
        resumes=run.resumes or None,
    )


def _waiting(run: RunRecord) -> wire.WaitingAnswer:
    facts = run.waiting_facts
    return wire.WaitingAnswer(
        reason=run.waiting_reason,
        until=run.waiting_until or None,
        attempt=facts.get("attempt", 0),
        stalled_ms=facts.get("stalled_ms", 0),
        waited_ms=facts.get("waited_ms", 0),
        tables=facts.get("tables", []),
        blockers=[_blocker(blocker) for blocker in facts.get("blockers", [])],
        session=wire.SessionAnswer(**facts["session"]) if "session" in facts else None,
        signals=[wire.SignalAnswer(**signal) for signal in facts.get("signals", [])],
        gives_up=facts.get("gives_up"),
        why=facts.get("why", ""),
    )


def health_answer(
    database: str, moment: Moment, ignored: Iterable[str]
) -> wire.HealthAnswer:
    """Return whether now is a good moment."""
    return wire.HealthAnswer(
        database=database,
        verdict="hold" if isinstance(moment, Hold) else "go",
        signals=[wire.SignalAnswer(**signal.to_dict()) for signal in moment.signals],
        ignored=sorted(ignored),
    )


def _blocker(facts: dict[str, Any]) -> wire.BlockerAnswer:
    shown = wire.BlockerAnswer.__struct_fields__
    return wire.BlockerAnswer(**{key: facts[key] for key in shown})


def ended_blockers_answer(
    run: str, ended: Iterable[dict[str, Any]], not_ended: Iterable[tuple[int, str]]
) -> wire.EndedBlockersAnswer:
    """Return what became of the sessions that were in the way."""
    return wire.EndedBlockersAnswer(
        run=run,
        ended=[_blocker(blocker) for blocker in ended],
        not_ended=[wire.NotEndedAnswer(pid=pid, why=why) for pid, why in not_ended],
    )


def _step_error(error: StepError | None) -> wire.StepErrorAnswer | None:
    return None if error is None else wire.StepErrorAnswer(**error.to_dict())


def runs_answer(runs: list[RunRecord], *, limit: int) -> wire.RunsAnswer:
    """Return a page of runs."""
    more = runs[-1].id if len(runs) == limit else None
    return wire.RunsAnswer(runs=[run_answer(run) for run in runs], next=more)


def event_answer(event: EventRecord) -> wire.EventAnswer:
    """Return an event."""
    return wire.EventAnswer(**event.words())


def events_answer(happenings: Happenings) -> wire.EventsAnswer:
    """Return events of a run."""
    return wire.EventsAnswer(
        events=[event_answer(event) for event in happenings.events],
        last=happenings.last,
        ended=happenings.ended,
    )


def status_answer(databases: list[DatabaseStatus]) -> wire.StatusAnswer:
    """Return the status of every database."""
    return wire.StatusAnswer(
        build=sources.build(),
        ledger_database=route_settings().ledger_database,
        databases=[
            wire.DatabaseAnswer(
                database=found.database,
                reachable=found.reachable,
                vendor=found.vendor,
                pending=None if found.pending is None else len(found.pending),
                pending_migrations=list(found.pending or ()),
                required=None if found.required is None else len(found.required),
                required_migrations=list(found.required or ()),
                deferred=[deferred_answer(left) for left in found.later],
                applied=found.applied,
                ahead=list(found.ahead),
                active_run=found.active_run,
                active_state=found.active_state or None,
                needs_resolution=found.unresolved_run,
                ledger_installed=found.ledger_installed,
                problem=problem_answer(found.problem) if found.problem else None,
                active_waiting=wire.ActiveWaitingAnswer(
                    reason=found.active_waits_for, until=found.active_until or None
                )
                if found.active_waits_for
                else None,
            )
            for found in databases
        ],
    )


def entry_answer(entry: EntryRecord) -> wire.EntryAnswer:
    """Return a line of the ledger."""
    return wire.EntryAnswer(
        sequence=entry.sequence,
        at=entry.at,
        action=entry.action,
        actor=wire.ActorAnswer(kind=entry.actor_kind, name=entry.actor_name),
        address=entry.address,
        database=entry.database,
        run=entry.run or None,
        build=entry.build,
        facts=entry.facts,
        previous=entry.previous,
        digest=entry.digest,
    )


def entries_answer(entries: list[EntryRecord], *, limit: int) -> wire.EntriesAnswer:
    """Return a page of the ledger."""
    more = entries[-1].sequence if len(entries) == limit else None
    return wire.EntriesAnswer(entries=[entry_answer(entry) for entry in entries], next=more)


def verification_answer(found: Verification) -> wire.VerificationAnswer:
    """Return what a walk along the ledger found."""
    return wire.VerificationAnswer(
        intact=found.intact,
        entries=found.entries,
        broken=found.broken.sequence if found.broken else None,
        message=found.broken.message if found.broken else "",
    )
