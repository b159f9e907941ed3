"""The gate before each step: it stays shut for a stop request, a hold (`holds`), an
unproven lock, or an intent that is not recorded.

A step that has started is carried to its end.
"""

from __future__ import annotations

from migration_route.core import clock
from migration_route.core.errors import RouteError
from migration_route.execution.messages import Message
from migration_route.execution.supervisor.child import Cancellation, Child
from migration_route.execution.supervisor.holds import (
    HealthHold,
    Hold,
    ManualHold,
    WindowHold,
)
from migration_route.execution.supervisor.recorder import EventRecorder
from migration_route.execution.supervisor.run_lock import LOCK_LOST, LockKeeper
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.step_evidence import StepError

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
        self._manual = ManualHold(run, run_log)
        self._window = WindowHold(run, run_log)
        self._health = HealthHold(run, run_log)
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
        elif not self._window.is_open():
            self._shut(message, self._window)
        elif is_looked_at or self._health.is_good(message):
            self._start(message)
        elif self._health.wants_forecast:
            self._child.request_new_forecast()
        else:
            self._shut(message, self._health)

    def _shut(self, message: Message, hold: Hold) -> None:
        self._question, self._hold = message, hold
        hold.shut()

    def look(self) -> None:
        """Check whether the shut gate can open, or the run is to stop."""
        if self._question is None or self._hold is None:
            return
        is_health = self._hold is self._health
        if self._hold.is_over():
            self.wait_at_gate(self._question, is_looked_at=is_health)
            return
        if is_health and self._health.wants_forecast:
            self._question = self._hold = None
            self._child.request_new_forecast()
            return
        self._cancellation.tick(in_step=False)
        if self._cancellation.why:
            self._refuse(None)
        elif self._cancellation.wants_hold and self._hold is not self._manual:
            self._hold.hand_over()
            self._shut(self._question, self._manual)
        elif error := self._hold.refusal:
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
        is_ours = clock.wait_until(
            self._lock_keeper.holds_claim, within=_RECORD_TIMEOUT, pause=_TICK
        )
        if not is_ours:
            self.refusal = _UNCONFIRMED
        self._child.answer(go=is_ours)

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
        clock.wait_until(self._is_settled, within=_RECORD_TIMEOUT, pause=_TICK)
        if not self._run_log.is_flushed and not self._run_log.is_durable:
            self.refusal = _UNRECORDED
            return False
        return True

    def _is_settled(self) -> bool:
        """Try to record what is pending; return whether a retry is useless."""
        return self._run_log.flush() or self._run_log.is_durable or self._run_log.is_refused

    def close(self) -> None:
        self._health.close()


def _position(run_log: RunLog, message: Message) -> int:
    for position, step in enumerate(run_log.steps):
        if (step.app, step.name) == (message.app, message.name):
            return position
    raise RouteError(
        f"The worker reported {message.app}.{message.name}, which is not in its work order."
    )
