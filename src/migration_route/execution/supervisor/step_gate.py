"""May the step at the gate begin? Not while the run is to stop, a person holds it, its
window has closed, the moment is not good, its lock is not sure, or its intent is not on
record.

Is a window open for the next step? One that has begun is carried to its end; the next
one does not begin when the window has closed meanwhile.

The run is held until the next opening. The lock is kept and the heart goes on beating, as
when a person holds a run.

How does a run wait because a person wants it to? At a gate: the step behind it has
not begun, the lock is kept, the heart goes on beating.
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

_ROW = 0.5  # seconds between two looks at the row


class WindowHold:
    """The windows of one run, while its steps are carried out."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run
        self._in_spite = run.in_spite
        self._closed: OpensLater | NeverOpens | None = None
        self._is_shown = False  # the row says that the run is held for this
        self._asked = 0.0

    def is_open(self, journal: RunLog) -> bool:
        """Tell whether the next step may begin; False: keep its gate shut."""
        found = OpenNow() if self._in_spite else step_window_for(self._run)
        if isinstance(found, OpenNow):
            return True
        self._closed = found
        journal.event(
            EventKind.WINDOW,
            text=f"The window has closed. {found.why}",
            facts={"until": self._until},
        )
        self._show(journal)
        return False

    def is_over(self, journal: RunLog) -> bool:
        """Tell whether the run may go on: a window is open, or a person wants it to go on
        all the same. A ledger that does not answer keeps it waiting."""
        now = time.monotonic()
        if now - self._asked < _ROW:
            return False
        self._asked = now
        with suppress(DatabaseFailure, DatabaseUnavailable):
            if not self._is_shown:
                self._show(journal)
            elif self._is_resumed(journal):
                return True
            if isinstance(step_window_for(self._run), OpenNow):
                return self._go_on(journal)
        return False

    def hand_over(self) -> None:
        """Leave the gate to a person, who wants the run to wait: the row is theirs."""
        self._is_shown = False

    @property
    def _until(self) -> str:
        return (
            clock.format_time(self._closed.at)
            if isinstance(self._closed, OpensLater)
            else ""
        )

    def _show(self, journal: RunLog) -> None:
        """Make the run `held`; tried again later where the ledger cannot be written."""
        journal.let_go()
        with suppress(DatabaseFailure, DatabaseUnavailable, InvalidState):
            if not journal.flush():
                return  # first what has been done, then that it waits
            self._hold({RunState.RUNNING})
            self._is_shown = True
            journal.event(EventKind.STATE, text=RunState.HELD)

    def _hold(self, expected: set[RunState]) -> None:
        why = self._closed.why if self._closed else ""
        change = runs.Change(
            waiting_reason=WaitingReason.WINDOW,
            waiting_until=self._until,
            waiting_facts={"why": why},
            reason=why,
            claim=self._run.carrier,
        )
        runs.move(self._run.id, to=RunState.HELD, expected=expected, change=change)

    def _go_on(self, journal: RunLog) -> bool:
        if self._is_shown:
            with suppress(InvalidState):  # cancelled: the gate's next question says so
                change = runs.Change(claim=self._run.carrier)
                runs.move(
                    self._run.id,
                    to=RunState.RUNNING,
                    expected={RunState.HELD},
                    change=change,
                )
                journal.event(EventKind.STATE, text=RunState.RUNNING)
        self._is_shown, self._closed = False, None
        return True

    def _is_resumed(self, journal: RunLog) -> bool:
        """Tell whether a person wants the run to go on in spite of its windows."""
        state = find_run(self._run.id).state
        if state is RunState.LOST:  # somebody took it for dead
            with suppress(InvalidState):
                self._hold({RunState.LOST})
        if state is not RunState.RUNNING:
            return False
        journal.event(EventKind.STATE, text=RunState.RUNNING)
        self._is_shown = False
        if ControlRequest.GO_ON in requested_controls(self._run.id):
            self._in_spite, self._closed = True, None
            clear_control(self._run.id, self._run.carrier, ControlRequest.GO_ON)
            return True
        self._show(journal)  # it was only asked to look again: it is still shut
        return False


_LOOK = 0.3  # seconds between two looks at whether it may go on


class ManualHold:
    """The gate that is kept shut."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run.id
        self._claim = run.carrier
        self._is_held = False
        self._is_taken = False  # the wish has been taken from beside the tables
        self._looked = 0.0

    def shut(self, journal: RunLog) -> None:
        """Keep a gate shut from now on."""
        self._is_held, self._is_taken, self._looked = False, False, 0.0
        journal.let_go()

    def is_over(self, journal: RunLog) -> bool:
        """Tell whether the run may go on: it was resumed, or never came to wait.

        A ledger that does not answer keeps it waiting.
        """
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return False
        self._looked = now
        with suppress(DatabaseFailure, DatabaseUnavailable):
            return self._is_resumed(journal) if self._is_held else not self._hold(journal)
        return False

    def _hold(self, journal: RunLog) -> bool:
        """Make the run `held`; False when nobody wants that any more."""
        if not journal.flush():
            return True  # first what has been done, then that it waits
        self._is_taken = self._is_taken or control.consume_control_in_spool(
            self._run, ControlRequest.HOLD
        )
        change = runs.Change(
            waiting_reason=WaitingReason.HELD,
            claim=self._claim,
            columns={"asked": ""},
            only_if={} if self._is_taken else {"asked": ControlRequest.HOLD},
        )
        try:
            # It may be held already, because the moment was not good.
            waits = {RunState.RUNNING, RunState.HELD}
            runs.move(self._run, to=RunState.HELD, expected=waits, change=change)
        except InvalidState:
            return False
        self._is_held = True
        journal.event(EventKind.STATE, text=RunState.HELD)
        return True

    def _is_resumed(self, journal: RunLog) -> bool:
        state = find_run(self._run).state
        if state is RunState.LOST:  # somebody took it for dead
            change = runs.Change(
                waiting_reason=WaitingReason.HELD,
                reason="The heartbeat has resumed.",
                claim=self._claim,
            )
            with suppress(InvalidState):
                runs.move(
                    self._run, to=RunState.HELD, expected={RunState.LOST}, change=change
                )
        if state is RunState.RUNNING:
            journal.event(EventKind.STATE, text=RunState.RUNNING)
        return state is RunState.RUNNING


_TICK = 0.1
_LAST_WORDS = 60.0  # seconds that an intent may take to come on record
_UNRECORDED = StepError(
    type="LedgerUnavailable",
    message="The beginning of this step could not be put on record: it was not begun.",
)
_UNCONFIRMED = StepError(
    type="LedgerUnavailable",
    message="The worker has opened a session, and the ledger could not confirm that this "
    "run is still its own: nothing was done in that session.",
)

Hold = ManualHold | WindowHold | HealthHold


class StepGate:
    """The gates of one run, of which one may be shut."""

    def __init__(
        self,
        run: RunRecord,
        child: Child,
        stopping: Cancellation,
        keeping: LockKeeper,
        transcript: EventRecorder,
        journal: RunLog,
    ) -> None:
        self._child = child
        self._stopping = stopping
        self._keeping = keeping
        self._transcript = transcript
        self._journal = journal
        self._holding = ManualHold(run)
        self._closing = WindowHold(run)
        self._goodness = HealthHold(run)
        self._keeper: Hold | None = None  # who keeps the gate shut
        self._gate: Message | None = None  # what the worker asked, while it has no answer
        self.refusal: StepError | None = None  # why a step was not let begin

    @property
    def is_shut(self) -> bool:
        """Tell whether the worker waits at a gate."""
        return self._gate is not None

    def come_to(self, said: Message, *, is_looked_at: bool = False) -> None:
        """Let the step begin, unless the run is to stop or to wait."""
        self._gate = self._keeper = None
        self._stopping.look()
        if self._stopping.why:
            self._child.answer(go=False)
        elif self._stopping.wants_hold:
            self._shut(said, self._holding)
        elif not self._closing.is_open(self._journal):
            self._shut(said, self._closing)
        elif is_looked_at or self._goodness.is_good(said, self._journal):
            self._begin(said)
        elif self._goodness.wants_forecast:
            self._child.let_foretell()
        else:
            self._shut(said, self._goodness)

    def _shut(self, said: Message, keeper: Hold) -> None:
        self._gate, self._keeper = said, keeper
        if isinstance(keeper, ManualHold):
            keeper.shut(self._journal)

    def look(self) -> None:
        """Keep the gate shut until it is said what becomes of the run."""
        if self._gate is None or self._keeper is None:
            return
        if self._keeper.is_over(self._journal):
            is_looked_at = isinstance(self._keeper, HealthHold)
            self.come_to(self._gate, is_looked_at=is_looked_at)
            return
        if self._keeper is self._goodness and self._goodness.wants_forecast:
            self._gate = self._keeper = None
            self._child.let_foretell()
            return
        self._stopping.tick(in_step=False)
        if self._stopping.why:
            self._refuse(None)
        elif not isinstance(self._keeper, ManualHold):
            if self._stopping.wants_hold:
                self._keeper.hand_over()
                self._shut(self._gate, self._holding)
            elif isinstance(self._keeper, HealthHold) and (error := self._goodness.refusal):
                self._refuse(error)

    def _refuse(self, error: StepError | None) -> None:
        self._gate = self._keeper = None
        self.refusal = error
        self._child.answer(go=False)

    def pass_operation(self, said: Message) -> None:
        """Put on record that an operation begins or returns, then let it."""
        self._transcript.pass_operation(said)
        self._child.answer(go=self._put_intent_on_record())

    def pass_session(self) -> None:
        """Let the worker use a session that it has opened, if the run is still this
        process's: the session holds the worker's lock, so nobody concludes the run now.

        Raises `ClaimLost`.
        """
        deadline = time.monotonic() + _LAST_WORDS
        while not self._keeping.holds_claim():
            if time.monotonic() > deadline:
                self.refusal = _UNCONFIRMED
                self._child.answer(go=False)
                return
            time.sleep(_TICK)
        self._child.answer(go=True)

    def _begin(self, said: Message) -> None:
        """Put the intent on record, then let the step begin."""
        if not self._keeping.is_sure():
            self._refuse(LOCK_LOST)
            return
        self._journal.let_go()
        self._transcript.begin_step(_position(self._journal, said), said.at)
        go = self._put_intent_on_record()
        if go:
            self._journal.hold()
        self._child.answer(go=go)

    def _put_intent_on_record(self) -> bool:
        """Return whether it is there: nothing runs that is not on record.

        Raises `ClaimLost`: writing it proves that the run is still this process's.
        """
        deadline = time.monotonic() + _LAST_WORDS
        while not self._journal.flush() and not self._journal.is_durable:
            if self._journal.is_refused or time.monotonic() > deadline:
                self.refusal = _UNRECORDED
                return False
            time.sleep(_TICK)
        return True

    def close(self) -> None:
        """End the connection over which the database was looked at."""
        self._goodness.close()


def _position(journal: RunLog, said: Message) -> int:
    for position, step in enumerate(journal.steps):
        if (step.app, step.name) == (said.app, said.name):
            return position
    raise RouteError(
        f"The worker speaks of {said.app}.{said.name}, which is not in its order."
    )
