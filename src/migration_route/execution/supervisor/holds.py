"""What keeps the gate before a step shut: a pause by a user, closed windows, or a failing
health check.

While a hold keeps the gate shut, the run is `paused`: the step behind the gate has not
started, the lock is kept and the heartbeat continues. A closed window keeps the run until
the next opening; a failing health check, until its signal is gone.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

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
from migration_route.execution.preflight import HealthProbe, step_window_for
from migration_route.ledger import control, runs
from migration_route.ledger.control import requested_controls
from migration_route.ledger.queries import find_run
from migration_route.ledger.records import RunRecord
from migration_route.ledger.run_log import RunLog
from migration_route.ledger.runs import clear_control, update_paused
from migration_route.ledger.step_evidence import StepError
from migration_route.policy.schedule import (
    HealthDecision,
    NeverOpens,
    OpenNow,
    OpensLater,
    Pause,
    Proceed,
    evaluate_health,
)

_POLL = 0.3  # seconds between two reads of the row


class Hold(ABC):
    """Pauses one run until its condition allows the next step, or a user resumes it."""

    def __init__(self, run: RunRecord, run_log: RunLog) -> None:
        self._run = run
        self._run_log = run_log
        self._is_shown = False  # the row says that the run is paused for this
        self._is_refused = False  # the state of the row did not allow the pause
        self._polled = 0.0

    @property
    @abstractmethod
    def _pause(self) -> runs.Change:
        """The change that pauses the run: what it waits for, and why."""

    @abstractmethod
    def _may_continue(self, *, is_resumed: bool) -> bool:
        """Return whether the hold ends now. `is_resumed`: a user has just resumed the
        run."""

    @property
    def refusal(self) -> StepError | None:
        """Why the run ends instead of waiting any longer; None while it may wait."""
        return None

    def shut(self) -> None:
        """Keep a gate shut from now on."""
        self._polled = 0.0
        self._run_log.stop_spooling()

    def is_over(self) -> bool:
        """Return whether the run may continue. While the ledger does not answer, the run
        keeps waiting."""
        now = time.monotonic()
        if now - self._polled < _POLL:
            return False
        self._polled = now
        with suppress(DatabaseFailure, DatabaseUnavailable):
            if not self._is_shown:
                self._show()
            is_resumed = self._is_shown and self._is_resumed()
            return self._may_continue(is_resumed=is_resumed)
        return False

    def hand_over(self) -> None:
        """Leave the gate and the row to the pause that a user asked for."""
        self._is_shown = False

    def _show(self) -> None:
        """Make the run `paused`; retried later if the ledger cannot be written."""
        self._run_log.stop_spooling()
        self._is_refused = False
        with suppress(DatabaseFailure, DatabaseUnavailable):
            if not self._run_log.flush():
                return  # record finished work before the pause
            try:
                self._pause_row()
            except InvalidState:
                self._is_refused = True
                return
            self._is_shown = True
            self._run_log.event(EventKind.STATE, text=RunState.PAUSED)

    def _pause_row(self) -> None:
        self._move(RunState.PAUSED, {RunState.RUNNING}, self._pause)

    def _continue(self) -> None:
        if self._is_shown:
            with suppress(InvalidState):  # cancelled: the next check at the gate sees it
                self._move(RunState.RUNNING, {RunState.PAUSED}, runs.Change())
                self._run_log.event(EventKind.STATE, text=RunState.RUNNING)
        self._is_shown = False

    def _is_resumed(self) -> bool:
        state = find_run(self._run.id).state
        if state is RunState.LOST:  # another process marked it lost
            again = replace(self._pause, reason="The heartbeat has resumed.")
            with suppress(InvalidState):
                self._move(RunState.PAUSED, {RunState.LOST}, again)
        if state is not RunState.RUNNING:
            return False
        self._is_shown = False
        self._run_log.event(EventKind.STATE, text=RunState.RUNNING)
        return True

    def _is_override_requested(self) -> bool:
        return ControlRequest.OVERRIDE in requested_controls(self._run.id)

    def _clear_override(self) -> None:
        clear_control(self._run.id, self._run.claimed_by, ControlRequest.OVERRIDE)

    def _move(self, to: RunState, expected: set[RunState], change: runs.Change) -> None:
        ours = replace(change, claim=self._run.claimed_by)
        runs.move(self._run.id, to=to, expected=expected, change=ours)


class ManualHold(Hold):
    """Pauses a run because a user asked for it."""

    _is_consumed = False  # the request was consumed from the spool

    @property
    def _pause(self) -> runs.Change:
        return runs.Change(waiting_reason=WaitingReason.PAUSED)

    def shut(self) -> None:
        super().shut()
        self._is_shown = self._is_consumed = False

    def _pause_row(self) -> None:
        self._is_consumed = self._is_consumed or control.consume_control_in_spool(
            self._run.id, ControlRequest.PAUSE
        )
        change = replace(
            self._pause,
            columns={"control_request": ""},
            only_if={} if self._is_consumed else {"control_request": ControlRequest.PAUSE},
        )
        # A health check or a window may have paused it already.
        self._move(RunState.PAUSED, {RunState.RUNNING, RunState.PAUSED}, change)

    def _may_continue(self, *, is_resumed: bool) -> bool:
        """Return whether it was resumed, or the pause is no longer requested."""
        return is_resumed or self._is_refused


class WindowHold(Hold):
    """Pauses a run while its windows are closed."""

    def __init__(self, run: RunRecord, run_log: RunLog) -> None:
        super().__init__(run, run_log)
        self._is_overridden = run.override_schedule
        self._closed: OpensLater | NeverOpens | None = None

    def is_open(self) -> bool:
        """Return whether the next step may start; False: keep its gate shut."""
        schedule = OpenNow() if self._is_overridden else step_window_for(self._run)
        if isinstance(schedule, OpenNow):
            return True
        self._closed = schedule
        self._run_log.event(
            EventKind.WINDOW,
            text=f"The window has closed. {schedule.why}",
            facts={"until": self._until},
        )
        self._show()
        return False

    @property
    def _until(self) -> str:
        closed = self._closed
        return clock.format_time(closed.at) if isinstance(closed, OpensLater) else ""

    @property
    def _pause(self) -> runs.Change:
        why = self._closed.why if self._closed else ""
        return runs.Change(
            waiting_reason=WaitingReason.WINDOW,
            waiting_until=self._until,
            waiting_facts={"why": why},
            reason=why,
        )

    def _may_continue(self, *, is_resumed: bool) -> bool:
        """Return whether a window is open, or a user overrides it."""
        if is_resumed and self._is_override_requested():
            self._is_overridden = True
            self._clear_override()
        elif is_resumed:
            self._show()  # resumed without an override: the window is still closed
        if not self._is_overridden and not isinstance(step_window_for(self._run), OpenNow):
            return False
        self._continue()
        self._closed = None
        return True


HEALTH_HOLD_TIMEOUT = "NotAGoodMoment"
"""The error type of a run that was paused for too long."""

_FRESH = 0.5  # seconds for which a check stays valid


class HealthHold(Hold):
    """The health checks of one run: they are read before each step."""

    def __init__(self, run: RunRecord, run_log: RunLog) -> None:
        super().__init__(run, run_log)
        self._settings = route_settings().health or HealthSettings()
        self._probe = HealthProbe(run.database)
        self._touched = Impact()
        # In checks not older than `_FRESH`.
        self._checked: set[tuple[str, int | None]] = set()
        # An override of the schedule at the start also overrides a freeze.
        self._overridden = (
            {SignalName.FREEZE} if run.override_schedule else set[SignalName]()
        )
        self._recorded: frozenset[SignalName] | None = None  # signals of the last event
        self._failing: Pause | None = None
        self.wants_forecast = False  # of the step, to decide whether to wait
        self._since = self._looked = 0.0

    def is_good(self, gate: Message) -> bool:
        """Read the signals for the step at this gate; False: keep the gate shut, or ask the
        step for its forecast first."""
        is_faked = self._run.mode is Mode.FAKE
        self._touched = NO_IMPACT if is_faked else Impact.from_dict(gate.facts)
        if self._failing is None:  # otherwise the step only added its forecast
            self._since = time.monotonic()
        return self._is_fresh() or self._look()

    def _is_fresh(self) -> bool:
        """Return whether the tables of this step were checked a moment ago and no signal
        stopped: otherwise steps that take no time would spend it on checks."""
        if time.monotonic() - self._looked > _FRESH:
            self._checked = set()
        is_bounded = self._touched.most_rewrites is not None
        return self._failing is None and is_bounded and self._checked >= self._needed

    def hand_over(self) -> None:
        super().hand_over()
        self._failing = None

    @property
    def refusal(self) -> StepError | None:
        """Why the run ends once it has been paused for too long."""
        patience = self._settings.max_wait
        waited = time.monotonic() - self._since
        if self._failing is None or waited < patience.total_seconds():
            return None
        return StepError(
            type=HEALTH_HOLD_TIMEOUT,
            message=f"A health check failed for {_seconds(patience)} s, so no further step "
            f"was started. {self._failing.reason}",
        )

    def close(self) -> None:
        self._probe.close()

    @property
    def _needed(self) -> set[tuple[str, int | None]]:
        touched = self._touched
        names = ("", *touched.locked, *touched.indexes)  # "": the server as a whole
        return {(name, touched.most_rewrites) for name in names}

    def _may_continue(self, *, is_resumed: bool) -> bool:
        """Return whether the signals are gone. They are read when that is due, and when a
        user asks for it, possibly overriding those that stop the run now."""
        if is_resumed and self._failing is not None and self._is_override_requested():
            self._overridden |= {signal.name for signal in self._failing.because}
            self._clear_override()
        every = self._settings.check_interval.total_seconds()
        is_due = time.monotonic() - self._looked > every
        return (is_resumed or is_due) and self._look()

    def _look(self) -> bool:
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
        self._record(decision)
        if isinstance(decision, Pause):
            self._failing = decision
            self._show()
            return False
        self._continue()
        self._failing = None
        return True

    def _record(self, decision: HealthDecision) -> None:
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
        self._run_log.event(
            EventKind.HEALTH,
            text=text,
            facts={
                "verdict": "go" if isinstance(decision, Proceed) else "pause",
                "signals": [one.to_dict() for one in (*stops, *unknown)],
            },
        )

    def _show(self) -> None:
        """Make the run `paused`, or update what it waits for."""
        if not self._is_shown:
            super()._show()
            return
        change = self._pause
        self._run_log.stop_spooling()
        with suppress(DatabaseFailure, DatabaseUnavailable, InvalidState):
            update_paused(
                self._run.id,
                self._run.claimed_by,
                change.waiting_facts,
                change.waiting_until,
            )

    @property
    def _pause(self) -> runs.Change:
        stops = self._failing.because if self._failing else ()
        every = self._failing.signals if self._failing else ()
        unknown = [one for one in every if one.state is SignalState.UNKNOWN]
        left = self._settings.max_wait.total_seconds() - (time.monotonic() - self._since)
        return runs.Change(
            waiting_reason=WaitingReason.HEALTH,
            waiting_until=_in(self._settings.check_interval),
            waiting_facts={
                "signals": [one.to_dict() for one in (*stops, *unknown)],
                "gives_up": _in(timedelta(seconds=max(left, 0))),
            },
            reason=self._failing.reason if self._failing else "",
        )


def _in(time_from_now: timedelta) -> str:
    return clock.format_time(clock.database_now() + time_from_now)


def _seconds(length: timedelta) -> str:
    return f"{length.total_seconds():g}"
