"""Stops a worker: before its next step if that comes soon, otherwise in the middle of its
work.

The statement is cancelled in the database; a worker that computes in Python is interrupted.
Both are repeated until the worker has ended. What that leaves is read from the database
afterwards, not decided here.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from django.db import Error as DatabaseFailure

from migration_route.core.enums import ControlRequest, RunState
from migration_route.execution.posix_signals import ShutdownSignals
from migration_route.execution.recovery.sessions import LockHolder
from migration_route.execution.supervisor.child import Child
from migration_route.execution.supervisor.outcome import Outcome
from migration_route.ledger.control import requested_controls
from migration_route.ledger.evidence import StepError

_LOOK = 0.5  # seconds between two reads of the control requests
_CANCEL_INTERVAL = 0.5  # seconds between two cancels of a statement
_INTERRUPT_INTERVAL = 1.0  # seconds before each interrupt of a worker
_BETWEEN_STEPS = 5.0  # seconds for `migrate` before, between and after its steps
_GRACE = 8.0  # seconds for a step after SIGTERM; Docker kills two seconds later
_TERMINATE_TIMEOUT = 10.0  # seconds for a terminated session to end


class Cancellation:
    """The control requests for a run, and the worker that must follow them."""

    def __init__(
        self, run: str, child: Child, backend: LockHolder, signals: ShutdownSignals
    ) -> None:
        self._run = run
        self._child = child
        self._worker_session = backend
        self._signals = signals
        self._requests: frozenset[str] = frozenset()
        self._looked = 0.0
        self._cancelled_at: float | None = None
        self._first_pressed_at = self._pressed_at = self._interrupted_at = 0.0

    @property
    def wants_hold(self) -> bool:
        """Whether a user asked for a pause, as of the last look."""
        return ControlRequest.PAUSE in self._requests

    @property
    def why(self) -> str:
        """Why the run is to stop: "cancel", the name of a signal, or ""."""
        if self._cancelled_at is not None:
            return ControlRequest.CANCEL
        return self._signals.name

    @property
    def was_pressed(self) -> bool:
        """Whether the worker was interrupted."""
        return self._first_pressed_at > 0

    def look(self) -> None:
        """Read the control requests now."""
        self._looked = time.monotonic()
        self._requests = requested_controls(self._run)
        if self._cancelled_at is None and self._requests & {
            ControlRequest.CANCEL,
            ControlRequest.FORCE,
        }:
            self._cancelled_at = self._looked

    def tick(self, *, in_step: bool) -> None:
        """Read the control requests from time to time and act on them. Never waits for
        long."""
        now = time.monotonic()
        if now - self._looked > _LOOK:
            self.look()
        if ControlRequest.FORCE in self._requests:
            self._first_pressed_at = self._first_pressed_at or now
            self._child.kill()
        elif self._is_due(now, in_step=in_step):
            self._press(now)

    def _is_due(self, now: float, *, in_step: bool) -> bool:
        if self._cancelled_at is not None:
            return now > self._cancelled_at + (0 if in_step else _BETWEEN_STEPS)
        return bool(self._signals.name) and now > self._signals.since + _GRACE

    def _press(self, now: float) -> None:
        self._first_pressed_at = self._first_pressed_at or now
        if now - self._pressed_at > _CANCEL_INTERVAL:
            self._pressed_at = now
            with suppress(DatabaseFailure):  # repeated soon
                self._worker_session.cancel_statement()
        if now - max(self._first_pressed_at, self._interrupted_at) > _INTERRUPT_INTERVAL:
            self._interrupted_at = now
            self._child.interrupt()

    def end_what_is_left(self) -> None:
        """Terminate the session of a stopped worker, so that its statement does not
        continue."""
        if not self._worker_session.is_gone(within=_CANCEL_INTERVAL):
            self._worker_session.end(within=_TERMINATE_TIMEOUT)


def apply_cancellation(outcome: Outcome, why: str) -> Outcome:
    """Return how a stopped run ended.

    A run that a user cancelled is `cancelled` if nothing is left half done. One whose
    process received a shutdown signal has failed, and its error says so.
    """
    if outcome.state is RunState.FAILED and why in {
        ControlRequest.CANCEL,
        ControlRequest.FORCE,
    }:
        return replace(outcome, state=RunState.CANCELLED, outcome="cancelled", error=None)
    if outcome.state in {RunState.FAILED, RunState.CANCELLED} and why.startswith("SIG"):
        error = StepError(
            type="Interrupted",
            message=f"The supervisor received {why} before the run finished.",
        )
        return replace(outcome, state=RunState.FAILED, outcome="interrupted", error=error)
    return outcome
