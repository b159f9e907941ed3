"""The gate before each step, and what keeps it shut: a stop request, a pause by a user, a
closed window, a failing health check, an unproven lock, or an intent that is not recorded.

A step that has started is carried to its end. While the gate is shut the run is `paused`:
the
step behind the gate has not started, the lock is kept and the heartbeat continues. A closed
window keeps the run until the next opening.
"""

from __future__ import annotations

import time
from contextlib import suppress

from django.db import Error as DatabaseFailure

from migration_route.core import clock
from migration_route.core.enums import ControlRequest, EventKind, RunState, WaitingReason
from migration_route.core.errors import DatabaseUnavailable, InvalidState, RouteError
from migration_route.execution.messages import Message
from migration_route.execution.preflight import step_window_for
from migration_route.execution.supervisor.cancellation import Cancellation
from migration_route.execution.supervisor.child import Child
from migration_route.execution.supervisor.health_hold import HealthHold
from migration_route.execution.supervisor.recorder import EventRecorder
from migration_route.execution.supervisor.run_lock import LOCK_LOST, LockKeeper
from migration_route.ledger import control, runs
from migration_route.ledger.control import requested_controls
from migration_route.ledger.evidence import StepError
from migration_route.ledger.queries import find_run
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.runs import clear_control
from migration_route.policy.schedule import NeverOpens, OpenNow, OpensLater

_ROW = 0.5  # seconds between two reads of the row


class WindowHold:
    """Pauses a run while its windows are closed."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run
        self._is_overridden = run.override_schedule
        self._closed: OpensLater | NeverOpens | None = None
        self._is_shown = False  # the row says that the run is paused for this
        self._looked = 0.0

    def is_open(self, run_log: RunLog) -> bool:
        """Return whether the next step may start; False: keep its gate shut."""
        schedule = OpenNow() if self._is_overridden else step_window_for(self._run)
        if isinstance(schedule, OpenNow):
            return True
        self._closed = schedule
        run_log.event(
            EventKind.WINDOW,
            text=f"The window has closed. {schedule.why}",
            facts={"until": self._until},
        )
        self._show(run_log)
        return False

    def is_over(self, run_log: RunLog) -> bool:
        """Return whether the run may continue: a window is open, or a user overrides it.
        While the ledger does not answer, the run keeps waiting."""
        now = time.monotonic()
        if now - self._looked < _ROW:
            return False
        self._looked = now
        with suppress(DatabaseFailure, DatabaseUnavailable):
            if not self._is_shown:
                self._show(run_log)
            elif self._is_resumed(run_log):
                return True
            if isinstance(step_window_for(self._run), OpenNow):
                return self._continue(run_log)
        return False

    def hand_over(self) -> None:
        """Leave the gate and the row to the pause that a user asked for."""
        self._is_shown = False

    @property
    def _until(self) -> str:
        return (
            clock.format_time(self._closed.at)
            if isinstance(self._closed, OpensLater)
            else ""
        )

    def _show(self, run_log: RunLog) -> None:
        """Make the run `paused`; retried later if the ledger cannot be written."""
        run_log.stop_spooling()
        with suppress(DatabaseFailure, DatabaseUnavailable, InvalidState):
            if not run_log.flush():
                return  # record finished work before the pause
            self._hold({RunState.RUNNING})
            self._is_shown = True
            run_log.event(EventKind.STATE, text=RunState.PAUSED)

    def _hold(self, expected: set[RunState]) -> None:
        why = self._closed.why if self._closed else ""
        change = runs.Change(
            waiting_reason=WaitingReason.WINDOW,
            waiting_until=self._until,
            waiting_facts={"why": why},
            reason=why,
            claim=self._run.claimed_by,
        )
        runs.move(self._run.id, to=RunState.PAUSED, expected=expected, change=change)

    def _continue(self, run_log: RunLog) -> bool:
        if self._is_shown:
            with suppress(InvalidState):  # cancelled: the next check at the gate sees it
                change = runs.Change(claim=self._run.claimed_by)
                runs.move(
                    self._run.id,
                    to=RunState.RUNNING,
                    expected={RunState.PAUSED},
                    change=change,
                )
                run_log.event(EventKind.STATE, text=RunState.RUNNING)
        self._is_shown, self._closed = False, None
        return True

    def _is_resumed(self, run_log: RunLog) -> bool:
        """Return whether a user lets the run continue outside its windows."""
        state = find_run(self._run.id).state
        if state is RunState.LOST:  # another process marked it lost
            with suppress(InvalidState):
                self._hold({RunState.LOST})
        if state is not RunState.RUNNING:
            return False
        run_log.event(EventKind.STATE, text=RunState.RUNNING)
        self._is_shown = False
        if ControlRequest.OVERRIDE in requested_controls(self._run.id):
            self._is_overridden, self._closed = True, None
            clear_control(self._run.id, self._run.claimed_by, ControlRequest.OVERRIDE)
            return True
        self._show(run_log)  # resumed without an override: the window is still closed
        return False


_LOOK = 0.3  # seconds between two reads of the state


class ManualHold:
    """Pauses a run because a user asked for it."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run.id
        self._claim = run.claimed_by
        self._is_paused = False
        self._is_consumed = False  # the request was consumed from the spool
        self._looked = 0.0

    def shut(self, run_log: RunLog) -> None:
        """Keep a gate shut from now on."""
        self._is_paused, self._is_consumed, self._looked = False, False, 0.0
        run_log.stop_spooling()

    def is_over(self, run_log: RunLog) -> bool:
        """Return whether the run may continue: it was resumed, or never came to a pause.

        While the ledger does not answer, the run keeps waiting.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return False
        self._looked = now
        with suppress(DatabaseFailure, DatabaseUnavailable):
            return self._is_resumed(run_log) if self._is_paused else not self._hold(run_log)
        return False

    def _hold(self, run_log: RunLog) -> bool:
        """Make the run `paused`; False if the pause is no longer requested."""
        if not run_log.flush():
            return True  # record finished work before the pause
        self._is_consumed = self._is_consumed or control.consume_control_in_spool(
            self._run, ControlRequest.PAUSE
        )
        change = runs.Change(
            waiting_reason=WaitingReason.PAUSED,
            claim=self._claim,
            columns={"control_request": ""},
            only_if={} if self._is_consumed else {"control_request": ControlRequest.PAUSE},
        )
        try:
            # A health check or a window may have paused it already.
            waits = {RunState.RUNNING, RunState.PAUSED}
            runs.move(self._run, to=RunState.PAUSED, expected=waits, change=change)
        except InvalidState:
            return False
        self._is_paused = True
        run_log.event(EventKind.STATE, text=RunState.PAUSED)
        return True

    def _is_resumed(self, run_log: RunLog) -> bool:
        state = find_run(self._run).state
        if state is RunState.LOST:  # another process marked it lost
            change = runs.Change(
                waiting_reason=WaitingReason.PAUSED,
                reason="The heartbeat has resumed.",
                claim=self._claim,
            )
            with suppress(InvalidState):
                runs.move(
                    self._run, to=RunState.PAUSED, expected={RunState.LOST}, change=change
                )
        if state is RunState.RUNNING:
            run_log.event(EventKind.STATE, text=RunState.RUNNING)
        return state is RunState.RUNNING


_TICK = 0.1
_RECORD_TIMEOUT = 60.0  # seconds to record an intent
_UNRECORDED = StepError(
    type="LedgerUnavailable",
    message="The ledger could not record the start of this step, so it was not started.",
)
_UNCONFIRMED = StepError(
    type="LedgerUnavailable",
    message="The worker opened a session, but the ledger could not confirm that this "
    "process still owns the run. Nothing was executed in that session.",
)

Hold = ManualHold | WindowHold | HealthHold


class StepGate:
    """The gates of one run, of which one may be shut."""

    def __init__(
        self,
        run: RunRecord,
        child: Child,
        cancellation: Cancellation,
        lock_keeper: LockKeeper,
        recorder: EventRecorder,
        run_log: RunLog,
    ) -> None:
        self._child = child
        self._cancellation = cancellation
        self._lock_keeper = lock_keeper
        self._recorder = recorder
        self._run_log = run_log
        self._manual = ManualHold(run)
        self._window = WindowHold(run)
        self._health = HealthHold(run)
        self._hold: Hold | None = None  # what keeps the gate shut
        self._question: Message | None = None  # the unanswered question of the worker
        self.refusal: StepError | None = None  # why a step was not started

    @property
    def is_shut(self) -> bool:
        """Whether the worker waits at a gate."""
        return self._question is not None

    def wait_at_gate(self, message: Message, *, is_looked_at: bool = False) -> None:
        """Start the step, unless the run is to stop or to wait."""
        self._question = self._hold = None
        self._cancellation.look()
        if self._cancellation.why:
            self._child.answer(go=False)
        elif self._cancellation.wants_hold:
            self._shut(message, self._manual)
        elif not self._window.is_open(self._run_log):
            self._shut(message, self._window)
        elif is_looked_at or self._health.is_good(message, self._run_log):
            self._start(message)
        elif self._health.wants_forecast:
            self._child.request_new_forecast()
        else:
            self._shut(message, self._health)

    def _shut(self, message: Message, hold: Hold) -> None:
        self._question, self._hold = message, hold
        if isinstance(hold, ManualHold):
            hold.shut(self._run_log)

    def look(self) -> None:
        """Check whether the shut gate can open, or the run is to stop."""
        if self._question is None or self._hold is None:
            return
        if self._hold.is_over(self._run_log):
            is_looked_at = isinstance(self._hold, HealthHold)
            self.wait_at_gate(self._question, is_looked_at=is_looked_at)
            return
        if self._hold is self._health and self._health.wants_forecast:
            self._question = self._hold = None
            self._child.request_new_forecast()
            return
        self._cancellation.tick(in_step=False)
        if self._cancellation.why:
            self._refuse(None)
        elif not isinstance(self._hold, ManualHold):
            if self._cancellation.wants_hold:
                self._hold.hand_over()
                self._shut(self._question, self._manual)
            elif isinstance(self._hold, HealthHold) and (error := self._health.refusal):
                self._refuse(error)

    def _refuse(self, error: StepError | None) -> None:
        self._question = self._hold = None
        self.refusal = error
        self._child.answer(go=False)

    def pass_operation(self, message: Message) -> None:
        """Record that an operation starts or returns, then let it."""
        self._recorder.pass_operation(message)
        self._child.answer(go=self._record_intent())

    def pass_session(self) -> None:
        """Let the worker use a session that it has opened, if this process still owns the
        run: the session holds the lock of the worker, so no other process can conclude the
        run now.

        Raises `ClaimLost`.
        """
        deadline = time.monotonic() + _RECORD_TIMEOUT
        while not self._lock_keeper.holds_claim():
            if time.monotonic() > deadline:
                self.refusal = _UNCONFIRMED
                self._child.answer(go=False)
                return
            time.sleep(_TICK)
        self._child.answer(go=True)

    def _start(self, message: Message) -> None:
        """Record the intent, then start the step."""
        if not self._lock_keeper.is_sure():
            self._refuse(LOCK_LOST)
            return
        self._run_log.stop_spooling()
        self._recorder.begin_step(_position(self._run_log, message), message.at)
        go = self._record_intent()
        if go:
            self._run_log.hold()
        self._child.answer(go=go)

    def _record_intent(self) -> bool:
        """Return whether the intent is recorded: nothing runs unrecorded.

        Raises `ClaimLost`: the write proves that this process still owns the run.
        """
        deadline = time.monotonic() + _RECORD_TIMEOUT
        while not self._run_log.flush() and not self._run_log.is_durable:
            if self._run_log.is_refused or time.monotonic() > deadline:
                self.refusal = _UNRECORDED
                return False
            time.sleep(_TICK)
        return True

    def close(self) -> None:
        """Close the connection of the health checks."""
        self._health.close()


def _position(run_log: RunLog, message: Message) -> int:
    for position, step in enumerate(run_log.steps):
        if (step.app, step.name) == (message.app, message.name):
            return position
    raise RouteError(
        f"The worker reported {message.app}.{message.name}, which is not in its work order."
    )
