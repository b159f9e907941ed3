"""Writes the evidence bundle of a run: what is recorded of it, in one signed file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.core.signing import Signer

from migration_route.access.actors import Actor
from migration_route.core import clock
from migration_route.core.canonical_json import canonical_json, to_plain
from migration_route.core.errors import DatabaseUnavailable, InvalidState
from migration_route.ledger import evidence, queries, rehearsals, verification
from migration_route.ledger.hashchain import Line, export_line
from migration_route.ledger.records import EventRecord, RunRecord
from migration_route.ledger.rehearsals import RehearsalRecord
from migration_route.planning import sources
from migration_route.presentation import serializers
from migration_route.services import runs
from migration_route.services.audit import audited

_EVENTS = 1000  # of one query
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceBundle:
    """The bundle of a run, and the name of its file."""

    name: str
    content: bytes


def bundle(run: str, actor: Actor) -> EvidenceBundle:
    """Return the evidence of a run; of a run that is still active, what is recorded so far.

    Only what is recorded is written. Raises `UnknownRun`, `Unauthenticated`, `Forbidden`,
    `DatabaseUnavailable`, `InvalidState` if the entries of the run were deleted, and
    `InvalidRequest` if the bundle is too large.
    """
    with audited(actor, "evidence", run=run):
        record, lines = _read_consistently(run, actor)
        head = verification.chain_head()
        if head is None or not lines:
            raise InvalidState(
                f"The ledger has no entry of run {run}: entries were deleted.",
                hint="Verify the ledger with 'ledger verify'.",
                run=run,
            )
        content = evidence.write_bundle(
            {
                evidence.RUN: _json(serializers.run_answer(record)),
                evidence.PLAN: _json(serializers.recorded_plan_answer(record)),
                evidence.APPROVALS: _json(serializers.recorded_approvals_answer(record)),
                evidence.REHEARSALS: _json(
                    [serializers.rehearsal_answer(each) for each in _rehearsals_of(record)]
                ),
                evidence.EVENTS: _json([event.to_dict() for event in _events_of(run)]),
                evidence.ENTRIES: b"".join(map(export_line, lines)),
            },
            build=sources.build(),
            run=run,
            created_at=clock.now(),
            head=head,
            sign=Signer(salt=evidence.SALT).signature,
        )
        return EvidenceBundle(name=evidence.file_name(run), content=content)


def _json(value: Any) -> bytes:
    return canonical_json(to_plain(value)).encode("ascii")


def _read_consistently(run: str, actor: Actor) -> tuple[RunRecord, list[Line]]:
    """Return a run and its entries as of the same time: a transition changes both."""
    for _ in range(_ATTEMPTS):
        record = runs.show(run, actor)
        lines = verification.lines_of_run(run)
        if record.is_active or queries.state_of(run) == record.state:
            return record, lines
    raise DatabaseUnavailable(
        f"Run {run} changes while it is read.", hint="Retry when it no longer changes."
    )


def _events_of(run: str) -> Iterator[EventRecord]:
    last = 0
    while page := queries.list_events(run, after=last, limit=_EVENTS):
        yield from page
        last = page[-1].number


def _rehearsals_of(run: RunRecord) -> list[RehearsalRecord]:
    """Return the rehearsals of the plan on the database of the run, before its end."""
    return rehearsals.rehearsals_of(
        run.fingerprint, database=run.database, until=run.finished_at or clock.now()
    )
