"""How does a supervisor put on record what its worker tells it?

In order, in batches, without ever blocking the worker: what the tables cannot take
now waits in memory and, beside an SQLite file, on disk.
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
from migration_route.ledger.entries import Draft, append
from migration_route.ledger.evidence import NONE_ADDED, AddedOperations, StepError
from migration_route.ledger.fencing import ClaimLost, renew_claim
from migration_route.ledger.records import EventRecord, RunRecord, StepRecord
from migration_route.models import Entry, Event
from migration_route.vendors.encodings import storable

logger = logging.getLogger("migration_route.ledger")

_NOT_ASCII = "\N{LATIN SMALL LETTER E WITH ACUTE}"


class RunLog:
    """The record of one run, kept by the one process that supervises it.

    It writes through `connections[ledger]` of its thread, which the supervisor has made
    its own and impatient. Each write proves first that the run is still this process's:
    `flush` raises `ClaimLost` where it is not, and has written nothing then.
    """

    def __init__(self, run: RunRecord) -> None:
        self._alias = route_settings().ledger_database
        self._run = run
        folder = spool.spool_dir(self._alias)
        self._file = spool.RunSpool(folder, run.id) if folder else None
        self._shares_file = folder is not None and folder == spool.spool_dir(run.database)
        self._held = False
        self.steps: tuple[StepRecord, ...] = run.steps
        self._last, self._digest = self._end_of_the_table()
        self._events: list[EventRecord] = []
        self._drafts: list[Draft] = []
        self._on_disk: set[str] = set()
        self._is_refused = False
        storable(connections[self._alias], _NOT_ASCII)  # asks now, while it answers
        self._take_up()

    def _end_of_the_table(self) -> tuple[int, str]:
        """Return the number and the digest of the last event that the table holds."""
        rows = Event.objects.using(self._alias).filter(run=self._run.id)
        last = rows.order_by("-number").values_list("number", "digest").first()
        return last or (0, hashchain.GENESIS)

    def _take_up(self) -> None:
        """Take up what an earlier supervisor left beside the database."""
        for line in self._file.read() if self._file else ():
            if event := line.get("event"):
                left = EventRecord(**event)
                if left.digest == hashchain.link(self._digest, left.words()):
                    self._add(left)
                    self._on_disk.add(f"event {left.number}")
            elif (entry := line.get("entry")) and entry["uid"] not in self._on_disk:
                self._drafts.append(Draft.from_words(entry))
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
        """Add an event; it gets the next number."""
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
        """Say how far a step has come; its beginning and its end are entries as well.

        `more` are facts for the entry of its end.
        """
        step = replace(
            self.steps[position], state=state, duration_ms=duration_ms, error=error
        )
        self.steps = (*self.steps[:position], step, *self.steps[position + 1 :])
        begins = state is StepState.APPLYING
        facts: dict[str, Any] = {"step": step.label, "direction": step.direction}
        if not begins:
            # The events up to here are thereby part of the chain.
            facts |= {
                "state": state,
                "duration_ms": duration_ms,
                "error": error and error.to_dict(),
                **more,
                **self.vouching,
            }
        self.entry(Action.STEP_STARTED if begins else Action.STEP_FINISHED, facts)

    def entry(self, action: Action, facts: dict[str, Any]) -> None:
        """Add a line of the ledger about this run."""
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
        """Say how many operations of a step came before the one that begins now; `added`
        says it of those of other packages."""
        before = self.steps[position]
        added = replace(added, done=before.added.done)
        step = replace(before, begun=begun, returned=returned, added=added)
        self.steps = (*self.steps[:position], step, *self.steps[position + 1 :])

    def hold(self) -> None:
        """Write beside the tables from now on, where the migration works in their file.

        A writer that waits for SQLite's readers makes one of them fail that wants to
        write as well ("database is locked", at once: sqlite.org, Result Codes, 5): the
        record must not do that to the migration.
        """
        self._held = self._shares_file
        if self._held and self._file is not None:
            self._file.beat()

    def let_go(self) -> None:
        """Write to the tables again: the migration waits, or has ended."""
        self._held = False

    @property
    def is_refused(self) -> bool:
        """Tell whether the database refuses a value of what waits: trying again does not
        help."""
        return self._is_refused

    @property
    def is_flushed(self) -> bool:
        """Tell whether the tables hold everything."""
        return not (self._events or self._drafts)

    @property
    def last(self) -> int:
        """Return the number of the last event; 0 before the first."""
        return self._last

    @property
    def vouching(self) -> dict[str, Any]:
        """Return what makes the events so far part of the chain of entries."""
        return {"events": self._last, "events_digest": self._digest}

    @property
    def is_durable(self) -> bool:
        """Tell whether the tables, or the disk beside them, hold everything."""
        waiting = {f"event {event.number}" for event in self._events}
        waiting |= {draft.uid for draft in self._drafts}
        return waiting <= self._on_disk

    def flush(self) -> bool:
        """Bring what waits into the tables; return whether it is there.

        A ledger that cannot be reached gets everything later. Raises `ClaimLost`.
        """
        if self._held:
            self._leave_beside()
            return False
        try:
            with ledger_transaction(self._alias):
                self._write()
        except IntegrityError:
            self._forget_what_is_in()
            return False
        except DataError:
            self._is_refused = True
            logger.exception("The record of run %s cannot be written.", self._run.id)
            self._leave_beside()
            return False
        except DatabaseFailure:
            # A session that the server has ended is renewed for the next flush.
            connections[self._alias].close_if_unusable_or_obsolete()
            self._leave_beside()
            return False
        self._events, self._drafts = [], []
        self._is_refused = False
        self._on_disk.clear()
        if self._file is not None:
            self._file.remove()
        return True

    def close(self) -> None:
        """Leave nothing behind: the run has ended, and the tables say so."""
        if self._file is not None:
            self._file.remove(at_the_end=True)

    def _write(self) -> None:
        renew_claim(
            self._run.id,
            self._run.carrier,
            steps=canonical_json([step.to_dict() for step in self.steps]),
            last_event=self._last,
        )
        Event.objects.using(self._alias).bulk_create(
            Event(run=self._run.id, digest=event.digest, **_stored(event))
            for event in self._events
        )
        if self._drafts:
            append(*self._drafts)

    def _forget_what_is_in(self) -> None:
        """Drop what an earlier write brought in although its answer never came.

        Where nothing was, another writer took the place in the chain of entries: the next
        flush takes the next one. The chain of events has one writer, so an event of
        another digest in a place of these was written by a process that has taken the run
        over: raises `ClaimLost`.
        """
        try:
            written = dict(
                Event.objects.using(self._alias)
                .filter(run=self._run.id, number__in=[one.number for one in self._events])
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
            if written.get(event.number, event.digest) != event.digest:
                raise ClaimLost(self._run.id)
        self._events = [event for event in self._events if event.number not in written]
        self._drafts = [draft for draft in self._drafts if draft.uid not in known]

    def _leave_beside(self) -> None:
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
                lines.append({"entry": draft.words()})
        if lines:
            lines.append({"steps": [step.to_dict() for step in self.steps]})
            self._file.append(lines)
        self._file.beat()


def _stored(event: EventRecord) -> dict[str, Any]:
    return {**event.words(), "facts": json.dumps(event.facts)}
