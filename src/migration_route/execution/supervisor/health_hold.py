"""Pauses a run while a health check fails.

The health signals are read before each step. While one of them stops the run, the run is
`paused`; it continues by itself when the signal is gone. The lock is kept and the heartbeat
continues, as when a user pauses a run.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.db import Error as DatabaseFailure

from migration_route.conf import route_settings
from migration_route.core import clock
from migration_route.core.enums import (
    ControlRequest,
    EventKind,
    Mode,
    RunState,
    WaitingReason,
)
from migration_route.core.errors import DatabaseUnavailable, InvalidState
from migration_route.core.values import (
    NO_IMPACT,
    HealthSettings,
    Impact,
    SignalName,
    SignalState,
)
from migration_route.execution.messages import Message
from migration_route.execution.preflight import HealthProbe
from migration_route.ledger import runs
from migration_route.ledger.control import requested_controls
from migration_route.ledger.evidence import StepError
from migration_route.ledger.queries import find_run
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.runs import clear_control, update_paused
from migration_route.policy.health_gate import (
    HealthDecision,
    Pause,
    Proceed,
    evaluate_health,
)

HEALTH_HOLD_TIMEOUT = "NotAGoodMoment"
"""The error type of a run that was paused for too long."""

_FRESH = 0.5  # seconds for which a check stays valid
_ROW = 0.3  # seconds between two reads of the state


class HealthHold:
    """The health checks of one run."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run
        self._settings = route_settings().health or HealthSettings()
        self._probe = HealthProbe(run.database)
        self._touched = Impact()
        self._checked: set[tuple[str, int | None]] = (
            set()
        )  # in checks not older than `_FRESH`
        # An override of the schedule at the start also overrides a freeze.
        self._overridden = (
            {SignalName.FREEZE} if run.override_schedule else set[SignalName]()
        )
        self._recorded: frozenset[SignalName] | None = None  # signals of the last event
        self._hold: Pause | None = None
        self.wants_forecast = False  # of the step, to decide whether to wait
        self._is_shown = False  # the row says that the run is paused for this
        self._since = self._looked = self._polled = 0.0

    def is_good(self, gate: Message, run_log: RunLog) -> bool:
        """Read the signals for the step at this gate; False: keep the gate shut, or ask the
        step for its forecast first."""
        is_faked = self._run.mode is Mode.FAKE
        touched = NO_IMPACT if is_faked else Impact.from_dict(gate.facts)
        self._touched = touched
        if self._hold is None:  # otherwise the step only added its forecast
            self._since = time.monotonic()
        if self._is_fresh():
            return True
        return self._look(run_log)

    def _is_fresh(self) -> bool:
        """Return whether the tables of this step were checked a moment ago and no signal
        stopped: otherwise steps that take no time would spend it on checks."""
        if time.monotonic() - self._looked > _FRESH:
            self._checked = set()
        is_bounded = self._touched.most_rewrites is not None
        return self._hold is None and is_bounded and self._checked >= self._needed

    def is_over(self, run_log: RunLog) -> bool:
        """Return whether the run may continue: the signals are gone. Reads them when that
        is due, and when a user asks for it. While the ledger does not answer, the run keeps
        waiting."""
        now = time.monotonic()
        if now - self._polled < _ROW:
            return False
        self._polled = now
        with suppress(DatabaseFailure, DatabaseUnavailable):
            if not self._is_shown:
                self._show(run_log)
            if (self._is_shown and self._is_resumed(run_log)) or self._is_due(now):
                return self._look(run_log)
        return False

    def hand_over(self) -> None:
        """Leave the gate and the row to the pause that a user asked for."""
        self._hold, self._is_shown = None, False

    @property
    def refusal(self) -> StepError | None:
        """Why the run ends once it has been paused for too long."""
        patience = self._settings.max_wait
        if self._hold is None or time.monotonic() - self._since < patience.total_seconds():
            return None
        return StepError(
            type=HEALTH_HOLD_TIMEOUT,
            message=f"A health check failed for {_seconds(patience)} s, so no further step "
            f"was started. {self._hold.reason}",
        )

    def close(self) -> None:
        self._probe.close()

    @property
    def _needed(self) -> set[tuple[str, int | None]]:
        touched = self._touched
        names = ("", *touched.locked, *touched.indexes)  # "": the server as a whole
        return {(name, touched.most_rewrites) for name in names}

    def _is_due(self, now: float) -> bool:
        return now - self._looked > self._settings.check_interval.total_seconds()

    def _look(self, run_log: RunLog) -> bool:
        """Read the signals and act on them; True when the run may continue."""
        signals = self._probe.look(self._touched)
        unheeded = self._settings.ignore | self._overridden
        self.wants_forecast = any(
            signal.lacks_forecast and signal.name not in unheeded for signal in signals
        )
        if self.wants_forecast:
            return False
        decision = evaluate_health(signals, self._settings, overridden=self._overridden)
        self._looked = time.monotonic()
        if self._touched.rewritten is None:  # a forecast is valid for its step alone
            self._checked |= self._needed
        self._record(decision, run_log)
        if isinstance(decision, Pause):
            self._hold = decision
            self._show(run_log)
            return False
        if self._is_shown:
            try:
                change = runs.Change(claim=self._run.claimed_by)
                runs.move(
                    self._run.id,
                    to=RunState.RUNNING,
                    expected={RunState.PAUSED},
                    change=change,
                )
                run_log.event(EventKind.STATE, text=RunState.RUNNING)
            except InvalidState:
                pass  # cancelled: the next check at the gate sees it
        self._hold, self._is_shown = None, False
        return True

    def _record(self, decision: HealthDecision, run_log: RunLog) -> None:
        """Record changes: the signals that stop the run, that none does any more, and at
        the start of the run those that are unknown."""
        stops = decision.because if isinstance(decision, Pause) else ()
        names = frozenset(signal.name for signal in stops)
        if names == (self._recorded or frozenset()) and self._recorded is not None:
            return
        unknown = [one for one in decision.signals if one.state is SignalState.UNKNOWN]
        is_first, self._recorded = self._recorded is None, names
        if isinstance(decision, Pause):
            text = f"A health check failed. {decision.reason}"
        elif not is_first:
            text = "No health check fails any more."
        elif unknown:
            reasons = " ".join(f"{one.name}: {one.reason}" for one in unknown)
            text = f"No health check fails, but some signals are unknown. {reasons}"
        else:
            return
        run_log.event(
            EventKind.HEALTH,
            text=text,
            facts={
                "verdict": "go" if isinstance(decision, Proceed) else "pause",
                "signals": [one.to_dict() for one in (*stops, *unknown)],
            },
        )

    def _show(self, run_log: RunLog) -> None:
        """Make the run `paused`, or update what it waits for; retried later if the ledger
        cannot be written."""
        if self._hold is None:
            return
        run_log.stop_spooling()
        with suppress(DatabaseFailure, DatabaseUnavailable, InvalidState):
            if self._is_shown:
                update_paused(
                    self._run.id, self._run.claimed_by, self._facts(), self._next_look()
                )
                return
            if not run_log.flush():
                return  # record finished work before the pause
            self._move_to_held({RunState.RUNNING}, self._hold.reason)
            self._is_shown = True
            run_log.event(EventKind.STATE, text=RunState.PAUSED)

    def _move_to_held(self, expected: set[RunState], reason: str) -> None:
        change = runs.Change(
            waiting_reason=WaitingReason.HEALTH,
            waiting_until=self._next_look(),
            waiting_facts=self._facts(),
            reason=reason,
            claim=self._run.claimed_by,
        )
        runs.move(self._run.id, to=RunState.PAUSED, expected=expected, change=change)

    def _is_resumed(self, run_log: RunLog) -> bool:
        """Return whether a user asks for another check, or overrides the signals."""
        state = find_run(self._run.id).state
        if state is RunState.LOST:  # another process marked it lost
            with suppress(InvalidState):
                self._move_to_held({RunState.LOST}, "The heartbeat has resumed.")
        if state is not RunState.RUNNING:
            return False
        self._is_shown = False
        run_log.event(EventKind.STATE, text=RunState.RUNNING)
        if self._hold is not None and ControlRequest.OVERRIDE in requested_controls(
            self._run.id
        ):
            self._overridden |= {signal.name for signal in self._hold.because}
            clear_control(self._run.id, self._run.claimed_by, ControlRequest.OVERRIDE)
        return True

    def _facts(self) -> dict[str, Any]:
        stops = self._hold.because if self._hold else ()
        unknown = [
            one
            for one in (self._hold.signals if self._hold else ())
            if one.state is SignalState.UNKNOWN
        ]
        left = self._settings.max_wait.total_seconds() - (time.monotonic() - self._since)
        return {
            "signals": [one.to_dict() for one in (*stops, *unknown)],
            "gives_up": _in(timedelta(seconds=max(left, 0))),
        }

    def _next_look(self) -> str:
        return _in(self._settings.check_interval)


def _in(time_from_now: timedelta) -> str:
    return clock.format_time(clock.database_now() + time_from_now)


def _seconds(length: timedelta) -> str:
    return f"{length.total_seconds():g}"
