"""Is now a good moment for the next step? Before each of them the supervisor looks; where
a signal stops, the run is held, and goes on by itself when the signal is gone.

The lock is kept and the heart goes on beating, as when a person holds a run.
"""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
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
from migration_route.ledger.runs import clear_control, update_held
from migration_route.policy.health_gate import Go, HealthDecision, Hold, evaluate_health

HEALTH_HOLD_TIMEOUT = "NotAGoodMoment"
"""The type of the error of a run that was held for too long."""

_FRESH = 0.5  # seconds for which a look stays good
_ROW = 0.3  # seconds between two looks at whether somebody wants it to look again


class HealthHold:
    """What the signals say to one run."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run
        self._settings = route_settings().health or HealthSettings()
        self._looking = HealthProbe(run.database)
        self._touched = Impact()
        self._seen: set[tuple[str, int | None]] = (
            set()
        )  # by looks that are not older than `_FRESH`
        # Who let it begin in spite of a freeze has let it go on in spite of that.
        self._overridden = {SignalName.FREEZE} if run.in_spite else set[SignalName]()
        self._told: frozenset[SignalName] | None = None  # what the last event said
        self._hold: Hold | None = None
        self.wants_forecast = False  # of the step, before it can be told whether to wait
        self._is_shown = False  # the row says that the run is held for this
        self._since = self._looked = self._asked = 0.0

    def is_good(self, gate: Message, journal: RunLog) -> bool:
        """Look at the database for the step at this gate; False: keep the gate shut, or
        ask the step for its forecast first."""
        is_faked = self._run.mode is Mode.FAKE
        touched = NO_IMPACT if is_faked else Impact.from_dict(gate.facts)
        self._touched = touched
        if self._hold is None:  # else it has only been asked for its forecast meanwhile
            self._since = time.monotonic()
        if self._is_fresh():
            return True
        return self._look(journal)

    def _is_fresh(self) -> bool:
        """Tell whether the tables of this step have just been looked at, and all was
        well: steps that take no time would else spend it with looking."""
        if time.monotonic() - self._looked > _FRESH:
            self._seen = set()
        is_bounded = self._touched.most_rewrites is not None
        return self._hold is None and is_bounded and self._seen >= self._needed

    def is_over(self, journal: RunLog) -> bool:
        """Tell whether the run may go on: the signals are gone. Looks when it is time to,
        and when somebody has asked for it. A ledger that does not answer keeps it
        waiting."""
        now = time.monotonic()
        if now - self._asked < _ROW:
            return False
        self._asked = now
        with suppress(DatabaseFailure, DatabaseUnavailable):
            if not self._is_shown:
                self._show(journal)
            if (self._is_shown and self._is_resumed(journal)) or self._is_due(now):
                return self._look(journal)
        return False

    def hand_over(self) -> None:
        """Leave the gate to a person, who wants the run to wait: the row is theirs."""
        self._hold, self._is_shown = None, False

    @property
    def refusal(self) -> StepError | None:
        """Return why the run ends when it has been held for too long."""
        patience = self._settings.patience
        if self._hold is None or time.monotonic() - self._since < patience.total_seconds():
            return None
        return StepError(
            type=HEALTH_HOLD_TIMEOUT,
            message=f"The moment was not good for {_seconds(patience)} s, and no further "
            f"step was begun. {self._hold.reason}",
        )

    def close(self) -> None:
        """End the connection."""
        self._looking.close()

    @property
    def _needed(self) -> set[tuple[str, int | None]]:
        touched = self._touched
        names = ("", *touched.locked, *touched.indexes)  # "": the server as a whole
        return {(name, touched.most_rewrites) for name in names}

    def _is_due(self, now: float) -> bool:
        return now - self._looked > self._settings.every.total_seconds()

    def _look(self, journal: RunLog) -> bool:
        """Look, and act upon it; True when the run may go on."""
        signals = self._looking.look(self._touched)
        unheeded = self._settings.ignore | self._overridden
        self.wants_forecast = any(
            signal.lacks_forecast and signal.name not in unheeded for signal in signals
        )
        if self.wants_forecast:
            return False
        moment = evaluate_health(signals, self._settings, overridden=self._overridden)
        self._looked = time.monotonic()
        if self._touched.rewritten is None:  # what was foretold holds for that step alone
            self._seen |= self._needed
        self._tell(moment, journal)
        if isinstance(moment, Hold):
            self._hold = moment
            self._show(journal)
            return False
        if self._is_shown:
            try:
                change = runs.Change(claim=self._run.carrier)
                runs.move(
                    self._run.id,
                    to=RunState.RUNNING,
                    expected={RunState.HELD},
                    change=change,
                )
                journal.event(EventKind.STATE, text=RunState.RUNNING)
            except InvalidState:
                pass  # somebody has cancelled it: the gate's next question says so
        self._hold, self._is_shown = None, False
        return True

    def _tell(self, moment: HealthDecision, journal: RunLog) -> None:
        """Put on record what has changed: what stops, that nothing does any more, and
        what is unknown when the run begins."""
        stops = moment.because if isinstance(moment, Hold) else ()
        names = frozenset(signal.name for signal in stops)
        if names == (self._told or frozenset()) and self._told is not None:
            return
        unknown = [one for one in moment.signals if one.state is SignalState.UNKNOWN]
        is_first, self._told = self._told is None, names
        if isinstance(moment, Hold):
            text = f"Not a good moment. {moment.reason}"
        elif not is_first:
            text = "The moment is good again."
        elif unknown:
            reasons = " ".join(f"{one.name}: {one.reason}" for one in unknown)
            text = f"Nothing is in the way, as far as it is known. {reasons}"
        else:
            return
        journal.event(
            EventKind.HEALTH,
            text=text,
            facts={
                "verdict": "go" if isinstance(moment, Go) else "hold",
                "signals": [one.to_dict() for one in (*stops, *unknown)],
            },
        )

    def _show(self, journal: RunLog) -> None:
        """Make the run `held`, or show what it waits for by now; tried again later where
        the ledger cannot be written."""
        if self._hold is None:
            return
        journal.let_go()
        with suppress(DatabaseFailure, DatabaseUnavailable, InvalidState):
            if self._is_shown:
                update_held(
                    self._run.id, self._run.carrier, self._facts(), self._next_look()
                )
                return
            if not journal.flush():
                return  # first what has been done, then that it waits
            self._move_to_held({RunState.RUNNING}, self._hold.reason)
            self._is_shown = True
            journal.event(EventKind.STATE, text=RunState.HELD)

    def _move_to_held(self, expected: set[RunState], reason: str) -> None:
        change = runs.Change(
            waiting_reason=WaitingReason.HEALTH,
            waiting_until=self._next_look(),
            waiting_facts=self._facts(),
            reason=reason,
            claim=self._run.carrier,
        )
        runs.move(self._run.id, to=RunState.HELD, expected=expected, change=change)

    def _is_resumed(self, journal: RunLog) -> bool:
        """Tell whether a person wants it to look again, or to go on in spite of it."""
        state = find_run(self._run.id).state
        if state is RunState.LOST:  # somebody took it for dead
            with suppress(InvalidState):
                self._move_to_held({RunState.LOST}, "The heartbeat has resumed.")
        if state is not RunState.RUNNING:
            return False
        self._is_shown = False
        journal.event(EventKind.STATE, text=RunState.RUNNING)
        if self._hold is not None and ControlRequest.GO_ON in requested_controls(
            self._run.id
        ):
            self._overridden |= {signal.name for signal in self._hold.because}
            clear_control(self._run.id, self._run.carrier, ControlRequest.GO_ON)
        return True

    def _facts(self) -> dict[str, Any]:
        told = self._hold.because if self._hold else ()
        unknown = [
            one
            for one in (self._hold.signals if self._hold else ())
            if one.state is SignalState.UNKNOWN
        ]
        left = self._settings.patience.total_seconds() - (time.monotonic() - self._since)
        return {
            "signals": [one.to_dict() for one in (*told, *unknown)],
            "gives_up": _in(timedelta(seconds=max(left, 0))),
        }

    def _next_look(self) -> str:
        return _in(self._settings.every)


def _in(time_from_now: timedelta) -> str:
    return clock.format_time(datetime.now(UTC) + time_from_now)


def _seconds(length: timedelta) -> str:
    return f"{length.total_seconds():g}"
