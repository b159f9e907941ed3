"""What is known of a session that went on in the database when its worker was gone?"""

from __future__ import annotations

from contextlib import suppress

from migration_route.errors import NotInThisState
from migration_route.ledger import runs
from migration_route.ledger.reading import find_run
from migration_route.ledger.records import RunRecord
from migration_route.running.recovery.backend import Backend
from migration_route.vocabulary import RunState, WaitingReason

_LEFT = frozenset(
    {
        RunState.WAITING,
        RunState.RUNNING,
        RunState.HELD,
        RunState.CANCELLING,
        RunState.LOST,
    }
)
_REASON = "Its processes are gone; its session in the database is still at work."


class Orphan:
    """The session of a run that is lost."""

    def __init__(self, run: str, backend: Backend, *, claim: str | None = None) -> None:
        """`claim` is that of the run's own process; None for anybody else."""
        self._run = run
        self._backend = backend
        self._claim = claim

    def tell(self) -> RunRecord:
        """Put on record that the run is lost, and which session it left; return it.

        Told once: a run that says so already is left as it is.
        """
        found = find_run(self._run)
        if found.waiting_reason == WaitingReason.ORPHAN_BACKEND:
            return found
        session = self._backend.describe()
        change = runs.Change(
            waiting_reason=WaitingReason.ORPHAN_BACKEND,
            waiting_facts={"session": session.to_dict()} if session else {},
            reason=_REASON,
            claim=self._claim,
        )
        with suppress(NotInThisState):  # somebody else has told it, or concluded it
            return runs.move(self._run, to=RunState.LOST, expected=_LEFT, change=change)
        return find_run(self._run)
