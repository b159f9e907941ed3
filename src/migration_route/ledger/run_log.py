"""Records the events of a worker for its supervisor, in order and in batches.

It never blocks the worker: what cannot be written to the tables now is kept in memory
and, beside a SQLite file, on disk.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

from django.db import DataError, IntegrityError, connections
from django.db import Error as DatabaseFailure

from migration_route.conf import route_settings
from migration_route.conf.databases import ledger_transaction
from migration_route.core import clock
from migration_route.core.canonical_json import canonical_json
from migration_route.core.enums import Action, EventKind, StepState
from migration_route.ledger import hashchain, spool
from migration_route.ledger.claims import ClaimLost, renew_claim
from migration_route.ledger.entries import Draft, append
from migration_route.ledger.records import EventRecord, RunRecord, StepRecord
from migration_route.ledger.step_evidence import NONE_ADDED, AddedOperations, StepError
from migration_route.models import Entry, Event
from migration_route.vendors.encodings import storable

logger = logging.getLogger("migration_route.ledger")

_NOT_ASCII = "\N{LATIN SMALL LETTER E WITH ACUTE}"


class RunLog:
    """The log of one run, written only by the process that supervises it.

    It writes through `connections[ledger]` of its thread, which the supervisor has
    replaced with a private connection with short timeouts. Each write first checks that
    this process still owns the claim: otherwise `flush` raises `ClaimLost` and writes
    nothing.
    """

    def __init__(self, run: RunRecord) -> None:
        self._alias = route_settings().ledger_database
        self._run = run
        folder = spool.spool_dir(self._alias)
        self._file = spool.RunSpool(folder, run.id) if folder else None
        self._shares_file = folder is not None and folder == spool.spool_dir(run.database)
        self._use_spool = False
        self.steps: tuple[StepRecord, ...] = run.steps
        self._encoded: dict[int, tuple[StepRecord, str]] = {}  # steps by position
        self._last, self._digest = self._last_stored_event()
        self._events: list[EventRecord] = []
        self._drafts: list[Draft] = []
        self._on_disk: set[str] = set()
        self._is_refused = False
        # Reads and caches the encoding now, while the database responds.
        storable(connections[self._alias], _NOT_ASCII)
        self._load_spool()

    def _last_stored_event(self) -> tuple[int, str]:
        """Return the number and the digest of the last event in the table."""
        rows = Event.objects.using(self._alias).filter(run=self._run.id)
        last = rows.order_by("-number").values_list("number", "digest").first()
        return last or (0, hashchain.GENESIS)

    def _load_spool(self) -> None:
        """Load what an earlier supervisor left in the spool."""
        for line in self._file.read() if self._file else ():
            if event := line.get("event"):
                record = EventRecord(**event)
                if record.digest == hashchain.link(self._digest, record.words()):
                    self._add(record)
                    self._on_disk.add(f"event {record.number}")
            elif (entry := line.get("entry")) and entry["uid"] not in self._on_disk:
                self._drafts.append(Draft.from_dict(entry))
                self._on_disk.add(entry["uid"])
            elif steps := line.get("steps"):
                self.steps = tuple(StepRecord.from_dict(step) for step in steps)

    def _add(self, event: EventRecord) -> None:
        self._events.append(event)
        self._last, self._digest = event.number, event.digest

    def event(
        self,
        kind: EventKind,
        *,
        at: str | None = None,
        step: int | None = None,
        operation: int | None = None,
        duration_ms: int | None = None,
        text: str = "",
        facts: dict[str, Any] | None = None,
    ) -> None:
        event = EventRecord(
            number=self._last + 1,
            at=at or clock.now(),
            kind=kind,
            step=step,
            operation=operation,
            duration_ms=duration_ms,
            text=storable(connections[self._alias], text),
            facts=facts or {},
            digest="",
        )
        self._add(replace(event, digest=hashchain.link(self._digest, event.words())))

    def step(
        self,
        position: int,
        state: StepState,
        *,
        duration_ms: int | None = None,
        error: StepError | None = None,
        **more: Any,
    ) -> None:
        """Set the state of a step; its start and its end are entries as well.

        `more` are facts for the entry of its end.
        """
        step = replace(
            self.steps[position], state=state, duration_ms=duration_ms, error=error
        )
        self.steps = (*self.steps[:position], step, *self.steps[position + 1 :])
        starts = state is StepState.APPLYING
        facts: dict[str, Any] = {"step": step.label, "direction": step.direction}
        if not starts:
            # This makes the events so far part of the chain of entries.
            facts |= {
                "state": state,
                "duration_ms": duration_ms,
                "error": error and error.to_dict(),
                **more,
                **self.entry_facts,
            }
        self.entry(Action.STEP_STARTED if starts else Action.STEP_FINISHED, facts)

    def entry(self, action: Action, facts: dict[str, Any]) -> None:
        self._drafts.append(
            Draft(
                action=action,
                database=self._run.database,
                run=self._run.id,
                build=self._run.build,
                facts=facts,
            )
        )

    def progress(
        self,
        position: int,
        *,
        begun: int,
        returned: bool,
        added: AddedOperations = NONE_ADDED,
    ) -> None:
        """Set how many operations of a step precede the one that starts now.

        `added` is the same for the operations that other packages have added.
        """
        before = self.steps[position]
        added = replace(added, done=before.added.done)
        step = replace(before, begun=begun, returned=returned, added=added)
        self.steps = (*self.steps[:position], step, *self.steps[position + 1 :])

    def hold(self) -> None:
        """Write to the spool from now on, if the migration works in the ledger's file.

        A writer that waits for SQLite's readers makes a reader that wants to write fail
        immediately ("database is locked": sqlite.org, Result Codes, 5): the log must not
        do that to the migration.
        """
        self._use_spool = self._shares_file
        if self._use_spool and self._file is not None:
            self._file.beat()

    def stop_spooling(self) -> None:
        """Write to the tables again: the migration waits, or it has ended."""
        self._use_spool = False

    @property
    def is_refused(self) -> bool:
        """Whether the database rejects a pending value, so that a retry does not help."""
        return self._is_refused

    @property
    def is_flushed(self) -> bool:
        """Whether everything is in the tables."""
        return not (self._events or self._drafts)

    @property
    def last(self) -> int:
        """The number of the last event; 0 before the first."""
        return self._last

    @property
    def entry_facts(self) -> dict[str, Any]:
        """The facts that make the events so far part of the chain of entries."""
        return {"events": self._last, "events_digest": self._digest}

    @property
    def is_durable(self) -> bool:
        """Whether everything is in the tables or in the spool."""
        pending = {f"event {event.number}" for event in self._events}
        pending |= {draft.uid for draft in self._drafts}
        return pending <= self._on_disk

    def flush(self) -> bool:
        """Write what is pending to the tables; return whether it is there.

        While the ledger is unreachable, everything is kept for a later flush. Raises
        `ClaimLost`.
        """
        if self._use_spool:
            self._spool()
            return False
        try:
            with ledger_transaction(self._alias):
                self._write()
        except IntegrityError:
            self._drop_stored()
            return False
        except DataError:
            self._is_refused = True
            logger.exception("Writing the log of run %s failed.", self._run.id)
            self._spool()
            return False
        except DatabaseFailure:
            # The next flush reconnects if the server has ended the session.
            connections[self._alias].close_if_unusable_or_obsolete()
            self._spool()
            return False
        self._events, self._drafts = [], []
        self._is_refused = False
        self._on_disk.clear()
        if self._file is not None:
            self._file.remove()
        return True

    def close(self) -> None:
        """Remove the spool file: the run has ended, and everything is in the tables."""
        if self._file is not None:
            self._file.remove(at_the_end=True)

    def _write(self) -> None:
        renew_claim(
            self._run.id,
            self._run.claimed_by,
            steps=self._steps_as_json(),
            last_event=self._last,
        )
        Event.objects.using(self._alias).bulk_create(
            Event(run=self._run.id, digest=event.digest, **_stored(event))
            for event in self._events
        )
        if self._drafts:
            append(*self._drafts)

    def _steps_as_json(self) -> str:
        """Return the canonical JSON of all steps. Only the steps that changed are encoded
        again: a run of hundreds of steps writes them at each step."""
        texts: list[str] = []
        for position, step in enumerate(self.steps):
            known = self._encoded.get(position)
            if known is None or known[0] is not step:
                known = self._encoded[position] = step, canonical_json(step.to_dict())
            texts.append(known[1])
        return f"[{','.join(texts)}]"

    def _drop_stored(self) -> None:
        """Drop what an earlier write committed although its response was lost.

        If there is none, another writer took the position in the chain of entries, and
        the next flush uses the next position. The chain of events has one writer, so an
        event with the same number and another digest was written by a process that has
        taken over the run: raises `ClaimLost`.
        """
        try:
            stored = dict(
                Event.objects.using(self._alias)
                .filter(
                    run=self._run.id, number__in=[event.number for event in self._events]
                )
                .values_list("number", "digest")
            )
            known = set(
                Entry.objects.using(self._alias)
                .filter(uid__in=[draft.uid for draft in self._drafts])
                .values_list("uid", flat=True)
            )
        except DatabaseFailure:
            return
        for event in self._events:
            if stored.get(event.number, event.digest) != event.digest:
                raise ClaimLost(self._run.id)
        self._events = [event for event in self._events if event.number not in stored]
        self._drafts = [draft for draft in self._drafts if draft.uid not in known]

    def _spool(self) -> None:
        if self._file is None:
            return
        lines: list[dict[str, Any]] = []
        for event in self._events:
            if (key := f"event {event.number}") not in self._on_disk:
                self._on_disk.add(key)
                lines.append({"event": {**event.words(), "digest": event.digest}})
        for draft in self._drafts:
            if draft.uid not in self._on_disk:
                self._on_disk.add(draft.uid)
                lines.append({"entry": draft.to_dict()})
        if lines:
            lines.append({"steps": [step.to_dict() for step in self.steps]})
            self._file.append(lines)
        self._file.beat()


def _stored(event: EventRecord) -> dict[str, Any]:
    return {**event.words(), "facts": json.dumps(event.facts)}
