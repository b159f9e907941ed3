"""Who watches over a run? The supervisor: one process per run, which survives whatever
the migration does, holds the lock, beats the heart and keeps the record.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from django.db import Error as DatabaseFailure
from django.db import connections

from migration_route.conf import route_settings
from migration_route.conf.databases import (
    ANSWER_TIMEOUT,
    private_connection,
    using_private_connection,
)
from migration_route.core.enums import EventKind, RunState, WaitingReason
from migration_route.core.errors import DatabaseUnavailable, InvalidState
from migration_route.execution.messages import Message, WorkOrder
from migration_route.execution.posix_signals import ShutdownSignals
from migration_route.execution.recovery.reaper import OrphanedSession
from migration_route.execution.recovery.reconcile import collect_evidence
from migration_route.execution.recovery.sessions import LockHolder
from migration_route.execution.supervisor.cancellation import (
    Cancellation,
    apply_cancellation,
)
from migration_route.execution.supervisor.child import Child
from migration_route.execution.supervisor.health_hold import HEALTH_HOLD_TIMEOUT
from migration_route.execution.supervisor.outcome import Outcome, determine_outcome
from migration_route.execution.supervisor.recorder import EventRecorder, LockWaitStatus
from migration_route.execution.supervisor.run_lock import LockKeeper, RunLock
from migration_route.execution.supervisor.step_gate import StepGate
from migration_route.ledger import entries, runs
from migration_route.ledger.database_time import read_time
from migration_route.ledger.evidence import NONE_ADDED
from migration_route.ledger.fencing import CLAIMABLE_STATES, ClaimLost
from migration_route.ledger.queries import find_run
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.planning.graph import read_recorder

logger = logging.getLogger("migration_route.execution")

_TICK = 0.1  # seconds between two looks at the record while the worker is silent
_FLUSH_PAUSE = 0.5  # seconds until a ledger that could not be written is tried again
_IMPATIENT = 0.05  # seconds that the record may keep the worker waiting
_LAST_WORDS = 60.0  # seconds to bring the ending into the tables
_SESSION_GOES = 2.0  # seconds for the worker's session to notice that it is dead


def supervise(run: RunRecord, child: Child, signals: ShutdownSignals) -> RunRecord:
    """Carry out a run that this process has taken, here and in a child that was forked
    before anything was connected; return the run as it ended."""
    connections.close_all()
    alias = route_settings().ledger_database
    connections[alias] = private_connection(
        alias, patience=_IMPATIENT, answer_timeout=ANSWER_TIMEOUT
    )
    try:
        read_time(alias)  # every time on record is the ledger's, not this host's
        return Supervisor(run, child, signals).supervise()
    finally:
        child.kill()
        connections.close_all()


class Supervisor:
    """Supervises one run, from the claim to the verdict."""

    def __init__(self, run: RunRecord, child: Child, signals: ShutdownSignals) -> None:
        self._run = run
        self._child = child
        self._signals = signals
        self._claim = RunLock(run)
        self._backend = LockHolder(run.database)
        self._stopping = Cancellation(run.id, child, self._backend, signals)
        self._waiting = LockWaitStatus(run)

    def supervise(self) -> RunRecord:
        """Carry out the run.

        Where another process has taken it over or concluded it meanwhile, this one stops
        its worker, writes nothing more and gives back what it holds.
        """
        try:
            is_ours = self._claim.make(worker_pid=self._child.pid, signals=self._signals)
            self._run = self._claim.run
            return self._watch() if is_ours else self._run
        except ClaimLost:
            self._child.kill()
            logger.warning(
                "Run %s was taken over or concluded by another process: this one ends.",
                self._run.id,
            )
            return find_run(self._run.id)
        finally:
            self._claim.close()
            self._backend.close()

    # --- during -----------------------------------------------------------------------

    def _watch(self) -> RunRecord:
        journal = RunLog(self._run)
        transcript = EventRecorder(journal)
        journal.event(EventKind.STATE, text=RunState.RUNNING)
        journal.flush()
        journal.hold()
        self._child.order(_order_of(self._run))
        beat = route_settings().lease.total_seconds() / 3
        self._keeping = LockKeeper(self._claim, journal, every=beat)
        self._gates = StepGate(
            self._run, self._child, self._stopping, self._keeping, transcript, journal
        )
        tried, flushed = 0.0, time.monotonic()
        while not self._child.is_silent:
            self._listen(transcript, timeout=_TICK)
            transcript.show_slow_statement()
            self._keeping.look()
            self._waiting.look()
            if self._gates.is_shut:
                self._gates.look()
            else:
                in_step = transcript.told.current is not None
                self._stopping.tick(in_step=in_step and not self._waiting.is_paused)
            now = time.monotonic()
            due = not journal.is_flushed or now - flushed > beat
            if due and now - tried > (_FLUSH_PAUSE if tried > flushed else _TICK):
                tried = now
                if journal.flush():
                    flushed = now
                    self._resume_if_lost()
            if self._child.has_ended():
                # A grandchild may hold the pipes open: what is written is read, no more.
                self._listen(transcript, timeout=0)
                self._listen(transcript, timeout=0)
                break
        journal.let_go()
        self._gates.close()
        return self._conclude(journal, transcript)

    def _resume_if_lost(self) -> None:
        """Show a run as running again that was taken for lost while its process was slow,
        or had no ledger."""
        if self._gates.is_shut:
            return  # what keeps it waiting says so
        try:
            if find_run(self._run.id).state is not RunState.LOST:
                return
            change = runs.Change(
                reason="The heartbeat has resumed.", claim=self._run.carrier
            )
            runs.move(
                self._run.id,
                to=RunState.RUNNING,
                expected={RunState.LOST},
                change=change,
            )
        except (DatabaseFailure, DatabaseUnavailable, InvalidState):
            return  # tried again with the next heartbeat

    def _listen(self, transcript: EventRecorder, *, timeout: float) -> None:
        for said in self._child.listen(timeout):
            if isinstance(said, Message) and said.kind == "gate":
                self._gates.come_to(said)
            elif isinstance(said, Message) and said.kind == "lock_pause":
                self._pause(said)
            elif isinstance(said, Message) and said.kind == "operation_gate":
                self._gates.pass_operation(said)
            elif isinstance(said, Message) and said.kind == "session_gate":
                self._gates.pass_session()
            else:
                self._waiting.hear(said)
                transcript.hear(said)

    def _pause(self, said: Message) -> None:
        """Show for whom the step waits, and let it go on waiting unless it is to stop."""
        self._stopping.look()
        if not self._stopping.why:
            self._waiting.show(said.facts)
        self._child.answer(go=not self._stopping.why)

    # --- after ------------------------------------------------------------------------

    def _conclude(self, journal: RunLog, transcript: EventRecorder) -> RunRecord:
        """Tell the outcome: only what a fresh connection has seen."""
        status = self._child.wait()
        if transcript.told.ending is None:
            transcript.died(status)
        told = transcript.told
        refusal = self._gates.refusal
        if refusal is not None:
            told = replace(told, ending="failed", error=refusal)
        if not self._outlives_its_session(journal):
            return self._run
        with using_private_connection(self._run.database):
            recorded = read_recorder(self._run.database)
            told = collect_evidence(told, self._run, journal.steps, recorded)
            found = determine_outcome(journal.steps, recorded, told)
        if self._stopping.was_pressed or told.ending in {None, "stopped"}:
            found = apply_cancellation(found, self._stopping.why)
        if (
            refusal is not None
            and refusal.type == HEALTH_HOLD_TIMEOUT
            and found.error == refusal
        ):
            found = replace(found, outcome=WaitingReason.HEALTH)
        if told.current is not None:
            step = found.steps[told.current]
            journal.step(told.current, step.state, error=step.error, **transcript.attempts)
        journal.event(EventKind.STATE, text=found.state, facts={"outcome": found.outcome})
        self._keeping.give_back()
        self._put_on_record(journal, found)
        return self._run

    def _outlives_its_session(self, journal: RunLog) -> bool:
        """Wait until the worker's session is gone as well; False when this process is
        told to end before."""
        if self._stopping.why:
            self._stopping.end_what_is_left()
        if self._backend.is_gone(within=_SESSION_GOES):
            return True
        orphan = OrphanedSession(self._run.id, self._backend, claim=self._run.carrier)
        orphan.tell()
        journal.event(EventKind.STATE, text=RunState.LOST)
        while not self._backend.is_gone(within=_FLUSH_PAUSE):
            journal.flush()
            if self._signals.name:
                self._run = find_run(self._run.id)
                return False
            self._stopping.look()
            if self._stopping.why:
                self._stopping.end_what_is_left()
        self._stopping.look()  # somebody may just have ended it
        return True

    def _put_on_record(self, journal: RunLog, found: Outcome) -> None:
        """Bring everything into the tables; the ending comes last."""
        deadline = time.monotonic() + _LAST_WORDS
        while not journal.flush() and not journal.is_refused:
            if time.monotonic() > deadline:
                break
            connections[route_settings().ledger_database].close_if_unusable_or_obsolete()
            time.sleep(_TICK)
        change = runs.Change(
            outcome=found.outcome,
            error=found.error,
            steps=found.steps,
            vouching=journal.vouching if journal.is_flushed else {},
            claim=self._run.carrier,
        )
        self._run = runs.move(
            self._run.id,
            to=found.state,
            expected=CLAIMABLE_STATES,
            change=change,
            patience=_LAST_WORDS,
        )
        journal.close()
        entries.absorb_spool(patience=_LAST_WORDS)


def _order_of(run: RunRecord) -> WorkOrder:
    return WorkOrder(
        run=run.id,
        database=run.database,
        direction=run.direction,
        mode=run.mode,
        targets=run.targets,
        fingerprint=run.fingerprint,
        steps=tuple((step.app, step.name, step.digest) for step in run.steps),
        phase=run.phase or "",
        left_out=tuple((left.app, left.name, left.digest) for left in run.deferred),
        rebuild_invalid_indexes=run.rebuild_invalid_indexes,
        done_operations=run.steps[0].done_operations if run.steps else None,
        added=run.steps[0].added if run.steps else NONE_ADDED,
    )
