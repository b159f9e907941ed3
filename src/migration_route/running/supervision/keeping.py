"""Is the lock of a run still held? Proved again and again, and renewed when it was lost.

A lock goes with its session, and a session can be ended: by an administrator, by a
restart of the server, by a firewall that has forgotten it.
"""

from __future__ import annotations

import time

from django.db import Error as DatabaseFailure
from django.db import connections

from migration_route.conf import route_settings
from migration_route.ledger.fencing import require_claim
from migration_route.ledger.journal import Journal
from migration_route.ledger.records import StepError
from migration_route.running.supervision.claiming import Claim
from migration_route.vocabulary import Action, EventKind

_PATIENCE = 5.0  # seconds that a step waits at its gate for a lost lock
_PAUSE = 0.05
_LOST = "The lock of this database was lost: its session has ended."
_TAKEN_AGAIN = "The lock was taken again."
LOCK_LOST = StepError(
    type="LockLost",
    message="The lock of this database was lost and could not be taken again: "
    "no further step was begun.",
)


class Keeping:
    """Watches over the lock of one run while its worker is at work.

    A lock that was lost is taken again only for a run that is still this process's: what
    proves the lock here raises `ClaimLost` where it is not.
    """

    def __init__(self, claim: Claim, journal: Journal, *, every: float) -> None:
        """Prove the lock every so many seconds."""
        self._claim = claim
        self._journal = journal
        self._every = every
        self._proved = time.monotonic()
        self._lost = False

    def look(self) -> None:
        """Prove the lock when it is time to, and try to take a lost one again."""
        if self._lost or time.monotonic() - self._proved > self._every:
            self._prove()

    def is_sure(self) -> bool:
        """Tell whether a step may begin: the lock is held, or taken again in a moment."""
        deadline = time.monotonic() + _PATIENCE
        while not self._prove():
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE)  # another process tries it for a moment, and gives it back
        return True

    def holds_claim(self) -> bool:
        """Return whether the ledger confirms the claim; False when it does not answer."""
        run = self._claim.run
        try:
            require_claim(run.id, run.carrier)
        except DatabaseFailure:
            connections[route_settings().ledger_database].close_if_unusable_or_obsolete()
            return False
        return True

    def give_back(self) -> None:
        """Give the lock back, and say so on record when it was not held any more."""
        if not self._claim.release() and not self._lost:
            self._tell(_LOST, when="at the end", taken_again=False)

    def _prove(self) -> bool:
        self._proved = time.monotonic()
        if not self._lost and self._claim.is_held():
            return True
        if not self._lost:
            self._lost = True
            self._tell(_LOST, when="during the run", taken_again=False)
        if self.holds_claim() and self._claim.take_again():
            # Whoever concludes a run holds this lock while doing so: what the row says now
            # stays so while the lock is held.
            if not self.holds_claim():
                return False
            self._lost = False
            self._tell(_TAKEN_AGAIN, when="during the run", taken_again=True)
            return True
        return False

    def _tell(self, text: str, *, when: str, taken_again: bool) -> None:
        facts = {"when": when, "taken_again": taken_again}
        self._journal.event(EventKind.LOCK_LOST, text=text, facts=facts)
        self._journal.entry(Action.LOCK_LOST, facts)
