"""How is a worker brought to a stop? Before its next step if that comes soon, else in
the middle of what it does.

Its statement is cancelled in the database; a worker that computes in Python instead is
interrupted. Both are done again until it has ended. What that leaves is not decided
here: the database says it afterwards.
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

_LOOK = 0.5  # seconds between two looks at what is asked
_AGAIN = 0.5  # seconds between two cancels of a statement
_PYTHON = 1.0  # seconds until a worker is interrupted, and until it is so once more
_BETWEEN = 5.0  # seconds for what `migrate` does before, between and after its steps
_GRACE = 8.0  # seconds for a step after SIGTERM; docker kills two seconds later
_ENDED = 10.0  # seconds for a session to go that was ended


class Cancellation:
    """What was asked of a run, and the worker that is to follow it."""

    def __init__(
        self, run: str, child: Child, backend: LockHolder, signals: ShutdownSignals
    ) -> None:
        self._run = run
        self._child = child
        self._backend = backend
        self._signals = signals
        self._words: frozenset[str] = frozenset()
        self._looked = 0.0
        self._asked_at: float | None = None
        self._first = self._pressed_at = self._interrupted_at = 0.0

    @property
    def wants_hold(self) -> bool:
        """Tell whether somebody wants the run to wait, as of the last look."""
        return ControlRequest.HOLD in self._words

    @property
    def why(self) -> str:
        """Return why the run is to stop: "cancel", the name of a signal, or ""."""
        if self._asked_at is not None:
            return ControlRequest.CANCEL
        return self._signals.name

    @property
    def was_pressed(self) -> bool:
        """Tell whether the worker was disturbed in what it did."""
        return self._first > 0

    def look(self) -> None:
        """Look at what is asked, now."""
        self._looked = time.monotonic()
        self._words = requested_controls(self._run)
        if self._asked_at is None and self._words & {
            ControlRequest.CANCEL,
            ControlRequest.FORCE,
        }:
            self._asked_at = self._looked

    def tick(self, *, in_step: bool) -> None:
        """Look from time to time, and do what is due. Never waits for long."""
        now = time.monotonic()
        if now - self._looked > _LOOK:
            self.look()
        if ControlRequest.FORCE in self._words:
            self._first = self._first or now
            self._child.kill()
        elif self._is_due(now, in_step=in_step):
            self._press(now)

    def _is_due(self, now: float, *, in_step: bool) -> bool:
        if self._asked_at is not None:
            return now > self._asked_at + (0 if in_step else _BETWEEN)
        return bool(self._signals.name) and now > self._signals.since + _GRACE

    def _press(self, now: float) -> None:
        self._first = self._first or now
        if now - self._pressed_at > _AGAIN:
            self._pressed_at = now
            with suppress(DatabaseFailure):  # done again soon
                self._backend.cancel_statement()
        if now - max(self._first, self._interrupted_at) > _PYTHON:
            self._interrupted_at = now
            self._child.interrupt()

    def end_what_is_left(self) -> None:
        """End the session that a stopped worker left: its statement is not to go on."""
        if not self._backend.is_gone(within=_AGAIN):
            self._backend.end(within=_ENDED)


def apply_cancellation(found: Outcome, why: str) -> Outcome:
    """Return how a run ended that was made to stop.

    One that somebody cancelled is `cancelled` if nothing is left half done. One whose
    process was told to end has failed, and says so.
    """
    if found.state is RunState.FAILED and why in {
        ControlRequest.CANCEL,
        ControlRequest.FORCE,
    }:
        return replace(found, state=RunState.CANCELLED, outcome="cancelled", error=None)
    if found.state in {RunState.FAILED, RunState.CANCELLED} and why.startswith("SIG"):
        error = StepError(
            type="Interrupted",
            message=f"The process of this run was told to end ({why}) before it had "
            "finished.",
        )
        return replace(found, state=RunState.FAILED, outcome="interrupted", error=error)
    return found
