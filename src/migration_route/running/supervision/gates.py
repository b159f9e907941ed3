"""May the step at the gate begin? Not while the run is to stop, a person holds it, its
window has closed, the moment is not good, its lock is not sure, or its intent is not on
record.
"""

from __future__ import annotations

import time

from migration_route.errors import RouteError
from migration_route.ledger.journal import Journal
from migration_route.ledger.records import RunRecord, StepError
from migration_route.running.child import Child
from migration_route.running.messages import Message
from migration_route.running.supervision.closing import Closing
from migration_route.running.supervision.goodness import Goodness
from migration_route.running.supervision.holding import Holding
from migration_route.running.supervision.keeping import LOCK_LOST, Keeping
from migration_route.running.supervision.stopping import Stopping
from migration_route.running.supervision.transcript import Transcript

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

Keeper = Holding | Closing | Goodness


class Gates:
    """The gates of one run, of which one may be shut."""

    def __init__(
        self,
        run: RunRecord,
        child: Child,
        stopping: Stopping,
        keeping: Keeping,
        transcript: Transcript,
        journal: Journal,
    ) -> None:
        self._child = child
        self._stopping = stopping
        self._keeping = keeping
        self._transcript = transcript
        self._journal = journal
        self._holding = Holding(run)
        self._closing = Closing(run)
        self._goodness = Goodness(run)
        self._keeper: Keeper | None = None  # who keeps the gate shut
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

    def _shut(self, said: Message, keeper: Keeper) -> None:
        self._gate, self._keeper = said, keeper
        if isinstance(keeper, Holding):
            keeper.shut(self._journal)

    def look(self) -> None:
        """Keep the gate shut until it is said what becomes of the run."""
        if self._gate is None or self._keeper is None:
            return
        if self._keeper.is_over(self._journal):
            is_looked_at = isinstance(self._keeper, Goodness)
            self.come_to(self._gate, is_looked_at=is_looked_at)
            return
        if self._keeper is self._goodness and self._goodness.wants_forecast:
            self._gate = self._keeper = None
            self._child.let_foretell()
            return
        self._stopping.tick(in_step=False)
        if self._stopping.why:
            self._refuse(None)
        elif not isinstance(self._keeper, Holding):
            if self._stopping.wants_hold:
                self._keeper.hand_over()
                self._shut(self._gate, self._holding)
            elif isinstance(self._keeper, Goodness) and (error := self._goodness.refusal):
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


def _position(journal: Journal, said: Message) -> int:
    for position, step in enumerate(journal.steps):
        if (step.app, step.name) == (said.app, said.name):
            return position
    raise RouteError(
        f"The worker speaks of {said.app}.{said.name}, which is not in its order."
    )
