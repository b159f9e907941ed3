"""Who watches over a run? The supervisor: one process per run, which survives whatever
the migration does, holds the lock, beats the heart and keeps the record.
"""

from __future__ import annotations

import time
from dataclasses import replace

from django.db import connections

from migration_route.conf import route_settings
from migration_route.connecting import new_connection, own_connection
from migration_route.errors import DatabaseUnavailable, NotInThisState, RouteError
from migration_route.ledger import entries, runs
from migration_route.ledger.journal import Journal
from migration_route.ledger.reading import find_run
from migration_route.ledger.records import RunRecord, StepError
from migration_route.planning.graph import read_recorder
from migration_route.running.child import Child
from migration_route.running.claiming import Claim
from migration_route.running.evidence import with_evidence
from migration_route.running.messages import Message, Order
from migration_route.running.transcript import Transcript
from migration_route.running.verdict import Verdict, verdict
from migration_route.vocabulary import EventKind, RunState

_TICK = 0.1  # seconds between two looks at the record while the worker is silent
_FLUSH_PAUSE = 0.5  # seconds until a ledger that could not be written is tried again
_IMPATIENT = 0.05  # seconds that the record may keep the worker waiting
_LAST_WORDS = 60.0  # seconds to bring the ending into the tables
_UNRECORDED = StepError(
    type="LedgerUnavailable",
    message="The beginning of this step could not be put on record: it was not begun.",
)


def supervise(run: str) -> RunRecord:
    """Carry out a queued run in this process and a child of it; return it as it ended.

    Raises `NotInThisState` when the run is not queued: another process has it, or it
    has ended. `UnknownRun` when there is none.
    """
    child = Child()  # before anything is connected
    alias = route_settings().ledger_database
    connections[alias] = new_connection(alias, patience=_IMPATIENT)
    try:
        return Supervisor(find_run(run), child).supervise()
    finally:
        child.kill()
        connections.close_all()


class Supervisor:
    """Supervises one run, from the claim to the verdict."""

    def __init__(self, run: RunRecord, child: Child) -> None:
        self._run = run
        self._child = child
        self._claim = Claim(run)
        self._unrecorded = False  # a step was stopped because it could not be put on record

    def supervise(self) -> RunRecord:
        """Carry out the run."""
        if self._run.state is not RunState.QUEUED:
            raise NotInThisState(
                f"Run {self._run.id} is {self._run.state}, not queued.",
                run=self._run.id,
            )
        try:
            is_ours = self._claim.make(worker_pid=self._child.pid)
            self._run = self._claim.run
            return self._watch() if is_ours else self._run
        finally:
            self._claim.close()

    # --- during -----------------------------------------------------------------------

    def _watch(self) -> RunRecord:
        journal = Journal(self._run)
        transcript = Transcript(journal)
        journal.event(EventKind.STATE, text=RunState.RUNNING)
        journal.flush()
        journal.hold()
        self._child.order(_order_of(self._run))
        beat = route_settings().lease.total_seconds() / 3
        tried, flushed = 0.0, time.monotonic()
        while not self._child.is_silent:
            self._listen(transcript, journal, timeout=_TICK)
            transcript.show_slow_statement()
            now = time.monotonic()
            due = not journal.is_flushed or now - flushed > beat
            if due and now - tried > (_FLUSH_PAUSE if tried > flushed else _TICK):
                tried = now
                flushed = now if journal.flush() else flushed
            if self._child.has_ended():
                # A grandchild may hold the pipes open: what is written is read, no more.
                self._listen(transcript, journal, timeout=0)
                self._listen(transcript, journal, timeout=0)
                break
        journal.let_go()
        return self._conclude(journal, transcript)

    def _listen(self, transcript: Transcript, journal: Journal, *, timeout: float) -> None:
        for said in self._child.listen(timeout):
            if isinstance(said, Message) and said.kind == "gate":
                self._gate(said, transcript, journal)
            elif isinstance(said, Message) and said.kind == "operation_gate":
                transcript.pass_operation(said)
                self._child.answer(go=self._put_intent_on_record(journal))
            else:
                transcript.hear(said)

    def _gate(self, said: Message, transcript: Transcript, journal: Journal) -> None:
        """Put the intent on record, then let the step begin, unless somebody cancelled."""
        if self._is_cancelled():
            self._child.answer(go=False)
            return
        journal.let_go()
        transcript.begin_step(_position(journal, said), said.at)
        go = self._put_intent_on_record(journal)
        if go:
            journal.hold()
        self._child.answer(go=go)

    def _put_intent_on_record(self, journal: Journal) -> bool:
        """Return whether it is there: nothing runs that is not on record."""
        deadline = time.monotonic() + _LAST_WORDS
        while not journal.flush() and not journal.is_durable:
            if time.monotonic() > deadline:
                self._unrecorded = True
                return False
            time.sleep(_TICK)
        return True

    def _is_cancelled(self) -> bool:
        try:
            return find_run(self._run.id).state is RunState.CANCELLING
        except DatabaseUnavailable:
            return False  # asked again at the next gate

    # --- after ------------------------------------------------------------------------

    def _conclude(self, journal: Journal, transcript: Transcript) -> RunRecord:
        """Tell the outcome: only what a fresh connection has seen."""
        status = self._child.wait()
        if transcript.told.ending is None:
            transcript.died(status)
        while not self._claim.session_is_gone():
            journal.flush()  # which beats the heart
            time.sleep(_TICK)
        told = transcript.told
        if self._unrecorded:
            told = replace(told, ending="failed", error=_UNRECORDED)
        with own_connection(self._run.database):
            recorded = read_recorder(self._run.database)
            told = with_evidence(told, self._run, journal.steps, recorded)
            found = verdict(journal.steps, recorded, told)
        if told.current is not None:
            step = found.steps[told.current]
            journal.step(told.current, step.state, error=step.error)
        journal.event(EventKind.STATE, text=found.state, facts={"outcome": found.outcome})
        self._claim.release()
        self._put_on_record(journal, found)
        return self._run

    def _put_on_record(self, journal: Journal, found: Verdict) -> None:
        """Bring everything into the tables; the ending comes last."""
        deadline = time.monotonic() + _LAST_WORDS
        while not journal.flush() and time.monotonic() < deadline:
            connections[route_settings().ledger_database].close_if_unusable_or_obsolete()
            time.sleep(_TICK)
        self._run = runs.move(
            self._run.id,
            to=found.state,
            expected={RunState.RUNNING, RunState.CANCELLING, RunState.LOST},
            change=runs.Change(
                outcome=found.outcome,
                error=found.error,
                steps=found.steps,
                vouching=journal.vouching if journal.is_flushed else {},
            ),
            patience=_LAST_WORDS,
        )
        journal.close()
        entries.take_in_what_was_left(patience=_LAST_WORDS)


def _order_of(run: RunRecord) -> Order:
    return Order(
        run=run.id,
        database=run.database,
        direction=run.direction,
        mode=run.mode,
        targets=run.targets,
        fingerprint=run.fingerprint,
        steps=tuple((step.app, step.name, step.digest) for step in run.steps),
        done_operations=run.steps[0].done_operations if run.steps else None,
    )


def _position(journal: Journal, said: Message) -> int:
    for position, step in enumerate(journal.steps):
        if (step.app, step.name) == (said.app, said.name):
            return position
    raise RouteError(
        f"The worker speaks of {said.app}.{said.name}, which is not in its order."
    )
