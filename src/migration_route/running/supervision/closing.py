"""Is a window open for the next step? One that has begun is carried to its end; the next
one does not begin when the window has closed meanwhile.

The run is held until the next opening. The lock is kept and the heart goes on beating, as
when a person holds a run.
"""

from __future__ import annotations

import time
from contextlib import suppress

from django.db import Error as DatabaseFailure

from migration_route import clock
from migration_route.deciding.windows import Later, Never, Now
from migration_route.errors import DatabaseUnavailable, NotInThisState
from migration_route.ledger import runs
from migration_route.ledger.asking import asked_of
from migration_route.ledger.journal import Journal
from migration_route.ledger.reading import find_run
from migration_route.ledger.records import RunRecord
from migration_route.ledger.waiting import forget_asked
from migration_route.running.openings import window_for
from migration_route.vocabulary import Asked, EventKind, RunState, WaitingReason

_ROW = 0.5  # seconds between two looks at the row


class Closing:
    """The windows of one run, while its steps are carried out."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run
        self._in_spite = run.in_spite
        self._closed: Later | Never | None = None
        self._is_shown = False  # the row says that the run is held for this
        self._asked = 0.0

    def is_open(self, journal: Journal) -> bool:
        """Tell whether the next step may begin; False: keep its gate shut."""
        found = Now() if self._in_spite else window_for(self._run)
        if isinstance(found, Now):
            return True
        self._closed = found
        journal.event(
            EventKind.WINDOW,
            text=f"The window has closed. {found.why}",
            facts={"until": self._until},
        )
        self._show(journal)
        return False

    def is_over(self, journal: Journal) -> bool:
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
            if isinstance(window_for(self._run), Now):
                return self._go_on(journal)
        return False

    def hand_over(self) -> None:
        """Leave the gate to a person, who wants the run to wait: the row is theirs."""
        self._is_shown = False

    @property
    def _until(self) -> str:
        return clock.written(self._closed.at) if isinstance(self._closed, Later) else ""

    def _show(self, journal: Journal) -> None:
        """Make the run `held`; tried again later where the ledger cannot be written."""
        journal.let_go()
        with suppress(DatabaseFailure, DatabaseUnavailable, NotInThisState):
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

    def _go_on(self, journal: Journal) -> bool:
        if self._is_shown:
            with suppress(NotInThisState):  # cancelled: the gate's next question says so
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

    def _is_resumed(self, journal: Journal) -> bool:
        """Tell whether a person wants the run to go on in spite of its windows."""
        state = find_run(self._run.id).state
        if state is RunState.LOST:  # somebody took it for dead
            with suppress(NotInThisState):
                self._hold({RunState.LOST})
        if state is not RunState.RUNNING:
            return False
        journal.event(EventKind.STATE, text=RunState.RUNNING)
        self._is_shown = False
        if Asked.GO_ON in asked_of(self._run.id):
            self._in_spite, self._closed = True, None
            forget_asked(self._run.id, self._run.carrier, Asked.GO_ON)
            return True
        self._show(journal)  # it was only asked to look again: it is still shut
        return False
