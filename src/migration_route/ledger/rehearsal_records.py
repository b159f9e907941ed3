"""What is known of a rehearsal? Frozen values, made from its row."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from migration_route.ledger.evidence import StepError
from migration_route.ledger.rehearsal_report import Report, report_from_json
from migration_route.models import Rehearsal
from migration_route.vocabulary import (
    ActorKind,
    CopyKind,
    Direction,
    Phase,
    RehearsalState,
    StepState,
)

ACTIVE = frozenset({RehearsalState.QUEUED, RehearsalState.COPYING, RehearsalState.RUNNING})
"""The states in which the processes of a rehearsal are, or may be, at work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRehearsal:
    """A rehearsal that is to begin."""

    database: str
    kind: CopyKind
    and_back: bool
    direction: Direction
    targets: tuple[str, ...]
    fingerprint: str
    steps: tuple[tuple[str, str, str], ...]  # app, name, digest of the source
    phase: Phase | None = None  # None: everything
    left_out: tuple[tuple[str, str, str], ...] = ()  # by that phase, as in `steps`
    actor_kind: ActorKind
    actor_name: str
    address: str
    reason: str
    build: str
    in_place: bool = False  # on the database itself, and rolled back
    credential: dict[str, Any] = field(default_factory=dict)  # what a machine has shown


@dataclass(frozen=True, slots=True, kw_only=True)
class RehearsalRecord:
    """A plan that is, or was, carried out on a copy, or in place."""

    id: str
    database: str
    state: RehearsalState
    kind: CopyKind
    and_back: bool
    in_place: bool  # on the database itself, and rolled back
    direction: Direction
    targets: tuple[str, ...]
    fingerprint: str
    steps: tuple[tuple[str, str, str], ...]
    phase: Phase | None
    left_out: tuple[tuple[str, str, str], ...]
    actor_kind: ActorKind
    actor_name: str
    reason: str
    build: str
    scratch: str  # the database that was made for it; "" where none was
    is_removed: bool
    host: str
    pid: int | None
    created_at: str
    started_at: str
    finished_at: str
    heartbeat_at: str
    error: StepError | None
    report: Report

    @property
    def is_active(self) -> bool:
        """Tell whether it is under way, or may be."""
        return self.state in ACTIVE

    @property
    def unrehearsed(self) -> int:
        """Return how many steps of one that went through were left out of it."""
        if self.state is not RehearsalState.SUCCEEDED:
            return 0
        return sum(step.state == StepState.NOT_STARTED for step in self.report.steps)


def _steps(text: str) -> tuple[tuple[str, str, str], ...]:
    return tuple((app, name, found) for app, name, found in json.loads(text or "[]"))


def record_of(row: Rehearsal) -> RehearsalRecord:
    """Return a row as a value."""
    error = json.loads(row.error) if row.error else None
    return RehearsalRecord(
        id=row.id,
        database=row.database,
        state=RehearsalState(row.state),
        kind=CopyKind(row.kind),
        and_back=row.and_back,
        in_place=row.in_place,
        direction=Direction(row.direction),
        targets=tuple(json.loads(row.targets)),
        fingerprint=row.fingerprint,
        steps=_steps(row.steps),
        phase=Phase(row.phase) if row.phase else None,
        left_out=_steps(row.left_out),
        actor_kind=ActorKind(row.actor_kind),
        actor_name=row.actor_name,
        reason=row.reason,
        build=row.build,
        scratch=row.scratch,
        is_removed=row.is_removed,
        host=row.host,
        pid=row.pid,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        heartbeat_at=row.heartbeat_at,
        error=StepError(**error) if error else None,
        report=report_from_json(row.report) if row.report else Report(),
    )
