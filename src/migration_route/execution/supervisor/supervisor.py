"""The supervisor: one process per run that holds the run lock, sends the heartbeat, writes
the ledger and survives whatever the migration does.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from django.db import Error as DatabaseFailure
from django.db import OperationalError, connections

from migration_route.conf import route_settings
from migration_route.conf.databases import (
    ANSWER_TIMEOUT,
    PATIENCE,
    private_connection,
    using_private_connection,
)
from migration_route.core.enums import EventKind, RunState, WaitingReason
from migration_route.core.errors import DatabaseUnavailable, InvalidState
from migration_route.execution.messages import Message, WorkOrder
from migration_route.execution.posix_signals import ShutdownSignals
from migration_route.execution.recovery.reaper import record_orphan
from migration_route.execution.recovery.reconcile import collect_evidence
from migration_route.execution.supervisor.child import Cancellation, Child
from migration_route.execution.supervisor.holds import HEALTH_HOLD_TIMEOUT
from migration_route.execution.supervisor.outcome import (
    Outcome,
    apply_cancellation,
    determine_outcome,
)
from migration_route.execution.supervisor.recorder import EventRecorder, LockWaitStatus
from migration_route.execution.supervisor.run_lock import LockHolder, LockKeeper, RunLock
from migration_route.execution.supervisor.step_gate import StepGate
from migration_route.ledger import entries, runs
from migration_route.ledger.claims import CLAIMABLE_STATES, ClaimLost, read_time
from migration_route.ledger.queries import find_run, state_of
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.step_evidence import NONE_ADDED
from migration_route.planning.graph import read_recorder

logger = logging.getLogger("migration_route.execution")

_TICK = 0.1  # seconds to listen for a message of the worker
_FLUSH_PAUSE = 0.5  # seconds before a failed write to the ledger is retried
_LEDGER_PATIENCE = 0.05  # seconds that a write to the ledger may delay the worker
_CONCLUDE_TIMEOUT = 60.0  # seconds to write the outcome to the tables
_SESSION_END_TIMEOUT = 2.0  # seconds for the session of a dead worker to end


def supervise(run: RunRecord, child: Child, signals: ShutdownSignals) -> RunRecord:
    """Carry out a run that this process has claimed, with a worker that was forked before
    any connection was opened. Return the run as it ended."""
    connections.close_all()
    alias = route_settings().ledger_database
    connections[alias] = private_connection(
        alias, patience=_LEDGER_PATIENCE, answer_timeout=ANSWER_TIMEOUT
    )
    try:
        read_time(alias)  # recorded times follow the clock of the ledger database
        return Supervisor(run, child, signals).supervise()
    finally:
        child.kill()
        connections.close_all()


class Supervisor:
    """Supervises one run, from the claim to the outcome."""

    def __init__(self, run: RunRecord, child: Child, signals: ShutdownSignals) -> None:
        self._run = run
        self._child = child
        self._signals = signals
        self._run_lock = RunLock(run)
        self._worker_session = LockHolder(run.database)
        self._cancellation = Cancellation(run.id, child, self._worker_session, signals)
        self._run_lock_timeout = LockWaitStatus(run)

    def supervise(self) -> RunRecord:
        """Carry out the run.

        If another process has taken over or concluded the run, kill the worker, write
        nothing more, release everything and return the run as it is.
        """
        try:
            is_ours = self._run_lock.make(worker_pid=self._child.pid, signals=self._signals)
            self._run = self._run_lock.run
            return self._watch() if is_ours else self._run
        except ClaimLost:
            self._child.kill()
            logger.warning(
                "Another process took over or concluded run %s; this supervisor exits.",
                self._run.id,
            )
            return find_run(self._run.id)
        finally:
            self._run_lock.close()
            self._worker_session.close()

    # --- during -----------------------------------------------------------------------

    def _watch(self) -> RunRecord:
        run_log = self._open_log()
        recorder = EventRecorder(run_log)
        run_log.event(EventKind.STATE, text=RunState.RUNNING)
        run_log.flush()
        run_log.hold()
        self._child.order(_work_order(self._run))
        beat = route_settings().heartbeat_timeout.total_seconds() / 3
        self._lock_keeper = LockKeeper(self._run_lock, run_log, every=beat)
        self._gate = StepGate(
            self._run, self._child, self._cancellation, self._lock_keeper, recorder, run_log
        )
        tried, flushed = 0.0, time.monotonic()
        while not self._child.is_silent:
            self._listen(recorder, timeout=_TICK)
            recorder.show_slow_statement()
            recorder.show_statement_progress(self._worker_session.statement_progress)
            self._lock_keeper.look()
            self._run_lock_timeout.look()
            if self._gate.is_shut:
                self._gate.look()
            else:
                in_step = recorder.report.current is not None
                self._cancellation.tick(
                    in_step=in_step and not self._run_lock_timeout.is_paused
                )
            now = time.monotonic()
            due = not run_log.is_flushed or now - flushed > beat
            if due and now - tried > (_FLUSH_PAUSE if tried > flushed else _TICK):
                tried = now
                if run_log.flush():
                    flushed = now
                    self._resume_if_lost()
            if self._child.has_ended():
                # A grandchild may keep the pipes open: read only what is already written.
                self._listen(recorder, timeout=0)
                self._listen(recorder, timeout=0)
                break
        run_log.stop_spooling()
        self._gate.close()
        return self._conclude(run_log, recorder)

    def _open_log(self) -> RunLog:
        """Open the log of the run, again while another process writes to the ledger: its
        connection hardly waits, and no worker waits yet."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                return RunLog(self._run)
            except OperationalError:
                if time.monotonic() > deadline:
                    raise
            connections[route_settings().ledger_database].close()
            time.sleep(_TICK)

    def _resume_if_lost(self, reason: str = "The heartbeat has resumed.") -> None:
        """Return a run to `running` that was marked lost while this process was slow, had
        no ledger, or waited for a session."""
        if self._gate.is_shut:
            return  # the hold at the gate updates the state
        try:
            if state_of(self._run.id) is not RunState.LOST:
                return
            change = runs.Change(reason=reason, claim=self._run.claimed_by)
            runs.move(
                self._run.id,
                to=RunState.RUNNING,
                expected={RunState.LOST},
                change=change,
            )
        except (DatabaseFailure, DatabaseUnavailable, InvalidState):
            return  # retried with the next heartbeat

    def _listen(self, recorder: EventRecorder, *, timeout: float) -> None:
        for message in self._child.listen(timeout):
            if isinstance(message, Message) and message.kind == "gate":
                self._gate.wait_at_gate(message)
            elif isinstance(message, Message) and message.kind == "lock_pause":
                self._pause(message)
            elif isinstance(message, Message) and message.kind == "operation_gate":
                self._gate.pass_operation(message)
            elif isinstance(message, Message) and message.kind == "session_gate":
                self._gate.pass_session()
            else:
                self._run_lock_timeout.hear(message)
                recorder.hear(message)

    def _pause(self, message: Message) -> None:
        """Show which sessions the step waits for; let it keep waiting unless the run is to
        stop."""
        self._cancellation.look()
        if not self._cancellation.why:
            self._run_lock_timeout.show(message.facts)
        self._child.answer(go=not self._cancellation.why)

    # --- after the worker ------------------------------------------------------------

    def _conclude(self, run_log: RunLog, recorder: EventRecorder) -> RunRecord:
        """Determine the outcome only from what a fresh connection reads."""
        status = self._child.wait()
        if recorder.report.ending is None:
            recorder.died(status)
        report = recorder.report
        refusal = self._gate.refusal
        if refusal is not None:
            report = replace(report, ending="failed", error=refusal)
        if not self._wait_for_session_end(run_log):
            return self._run
        with using_private_connection(self._run.database):
            recorded = read_recorder(self._run.database)
            report = collect_evidence(report, self._run, run_log.steps, recorded)
            outcome = determine_outcome(run_log.steps, recorded, report)
        if self._cancellation.was_pressed or report.ending in {None, "stopped"}:
            outcome = apply_cancellation(outcome, self._cancellation.why)
        if (
            refusal is not None
            and refusal.type == HEALTH_HOLD_TIMEOUT
            and outcome.error == refusal
        ):
            outcome = replace(outcome, outcome=WaitingReason.HEALTH)
        if report.current is not None:
            step = outcome.steps[report.current]
            run_log.step(report.current, step.state, error=step.error, **recorder.attempts)
        run_log.event(
            EventKind.STATE, text=outcome.state, facts={"outcome": outcome.outcome}
        )
        self._lock_keeper.give_back()
        self._record_outcome(run_log, outcome)
        return self._run

    def _wait_for_session_end(self, run_log: RunLog) -> bool:
        """Wait until the session of the worker has ended too; False if this process
        receives a shutdown signal first."""
        if self._cancellation.why:
            self._cancellation.end_what_is_left()
        if self._worker_session.is_gone(within=_SESSION_END_TIMEOUT):
            return True
        record_orphan(self._run, self._worker_session, claim=self._run.claimed_by)
        run_log.event(EventKind.STATE, text=RunState.LOST)
        while not self._worker_session.is_gone(within=_FLUSH_PAUSE):
            run_log.flush()
            if self._signals.name:
                self._run = find_run(self._run.id)
                return False
            self._cancellation.look()
            if self._cancellation.why:
                self._cancellation.end_what_is_left()
        self._cancellation.look()  # a user may just have terminated it
        # This process records the outcome: while the run is lost, another one could
        # conclude it as soon as the lock is released.
        self._resume_if_lost("The session of the worker has ended.")
        return True

    def _record_outcome(self, run_log: RunLog, outcome: Outcome) -> None:
        """Write everything to the ledger tables, the outcome last."""
        deadline = time.monotonic() + _CONCLUDE_TIMEOUT
        while not run_log.flush() and not run_log.is_refused:
            if time.monotonic() > deadline:
                break
            connections[route_settings().ledger_database].close_if_unusable_or_obsolete()
            time.sleep(_TICK)
        change = runs.Change(
            outcome=outcome.outcome,
            error=outcome.error,
            steps=outcome.steps,
            entry_facts=run_log.entry_facts if run_log.is_flushed else {},
            claim=self._run.claimed_by,
        )
        self._run = runs.move(
            self._run.id,
            to=outcome.state,
            expected=CLAIMABLE_STATES,
            change=change,
            patience=_CONCLUDE_TIMEOUT,
        )
        run_log.close()
        entries.absorb_spool(patience=_CONCLUDE_TIMEOUT)


def _work_order(run: RunRecord) -> WorkOrder:
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
