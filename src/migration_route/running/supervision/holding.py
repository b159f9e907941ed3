"""How does a run wait because a person wants it to? At a gate: the step behind it has
not begun, the lock is kept, the heart goes on beating.
"""

from __future__ import annotations

import time
from contextlib import suppress

from django.db import Error as DatabaseFailure

from migration_route.errors import DatabaseUnavailable, NotInThisState
from migration_route.ledger import asking, runs
from migration_route.ledger.journal import Journal
from migration_route.ledger.reading import find_run
from migration_route.ledger.records import RunRecord
from migration_route.vocabulary import Asked, EventKind, RunState, WaitingReason

_LOOK = 0.3  # seconds between two looks at whether it may go on


class Holding:
    """The gate that is kept shut."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run.id
        self._claim = run.carrier
        self._is_held = False
        self._is_taken = False  # the wish has been taken from beside the tables
        self._looked = 0.0

    def shut(self, journal: Journal) -> None:
        """Keep a gate shut from now on."""
        self._is_held, self._is_taken, self._looked = False, False, 0.0
        journal.let_go()

    def is_over(self, journal: Journal) -> bool:
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

    def _hold(self, journal: Journal) -> bool:
        """Make the run `held`; False when nobody wants that any more."""
        if not journal.flush():
            return True  # first what has been done, then that it waits
        self._is_taken = self._is_taken or asking.take_up_beside(self._run, Asked.HOLD)
        change = runs.Change(
            waiting_reason=WaitingReason.HELD,
            claim=self._claim,
            columns={"asked": ""},
            only_if={} if self._is_taken else {"asked": Asked.HOLD},
        )
        try:
            # It may be held already, because the moment was not good.
            waits = {RunState.RUNNING, RunState.HELD}
            runs.move(self._run, to=RunState.HELD, expected=waits, change=change)
        except NotInThisState:
            return False
        self._is_held = True
        journal.event(EventKind.STATE, text=RunState.HELD)
        return True

    def _is_resumed(self, journal: Journal) -> bool:
        state = find_run(self._run).state
        if state is RunState.LOST:  # somebody took it for dead
            change = runs.Change(
                waiting_reason=WaitingReason.HELD,
                reason="The heartbeat has resumed.",
                claim=self._claim,
            )
            with suppress(NotInThisState):
                runs.move(
                    self._run, to=RunState.HELD, expected={RunState.LOST}, change=change
                )
        if state is RunState.RUNNING:
            journal.event(EventKind.STATE, text=RunState.RUNNING)
        return state is RunState.RUNNING
