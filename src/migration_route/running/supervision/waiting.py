"""How is a run shown that waits for locks of others?

Its row is `waiting`, with who is in the way, from the first pause until a statement has
been sent that did not come back for its limit. One entry when it begins to wait, one
when it goes on; in between the row alone is kept fresh.
"""

from __future__ import annotations

import time
from typing import Any

from django.db import Error as DatabaseFailure

from migration_route.errors import DatabaseUnavailable, NotInThisState
from migration_route.ledger import runs
from migration_route.ledger.records import RunRecord
from migration_route.ledger.waiting import show_waiting
from migration_route.running.child import Spoken
from migration_route.running.messages import Message
from migration_route.vocabulary import RunState, WaitingReason

_SLACK = 0.5  # seconds for the news that a statement's limit was reached


class Waiting:
    """What the row of one run says of its waiting."""

    def __init__(self, run: RunRecord) -> None:
        self._run = run.id
        self._claim = run.carrier
        self._is_shown = False
        self._goes_on_at: float | None = None  # unless news of a failure comes before

    @property
    def is_paused(self) -> bool:
        """Tell whether the step only waits, and will ask again whether it is to stop."""
        return self._is_shown and self._goes_on_at is None

    def show(self, facts: dict[str, Any]) -> None:
        """Show that the run waits, or what has become of its waiting."""
        self._goes_on_at = None
        try:
            if self._is_shown:
                show_waiting(self._run, self._claim, facts)
                return
            change = runs.Change(
                waiting_reason=WaitingReason.BLOCKED,
                waiting_facts=facts,
                claim=self._claim,
            )
            self._move(RunState.WAITING, RunState.RUNNING, change)
            self._is_shown = True
        except (DatabaseFailure, DatabaseUnavailable):
            return  # the next pause tries it again

    def hear(self, said: Message | Spoken) -> None:
        """Take notice of a statement that is sent, and of a step that is done."""
        if not self._is_shown or not isinstance(said, Message):
            return
        if said.kind == "lock_fired":
            self._goes_on_at = time.monotonic() + (said.duration_ms or 0) / 1000 + _SLACK
        elif said.kind == "step_finished":
            self._goes_on_at = time.monotonic()
            self.look()

    def look(self) -> None:
        """Show that the run goes on, once its statement must have had its locks."""
        if self._goes_on_at is None or time.monotonic() < self._goes_on_at:
            return
        try:
            self._move(RunState.RUNNING, RunState.WAITING, runs.Change(claim=self._claim))
        except (DatabaseFailure, DatabaseUnavailable):
            return
        self._is_shown, self._goes_on_at = False, None

    def _move(self, to: RunState, expected: RunState, change: runs.Change) -> None:
        try:
            runs.move(self._run, to=to, expected={expected}, change=change)
        except NotInThisState:
            return  # somebody has cancelled it: the next question is answered so


def attempt_line(facts: dict[str, Any]) -> str:
    """Say an attempt in one line."""
    tables = ", ".join(facts["tables"]) or "what the statement needs"
    what = "was sent and timed out" if facts["fired"] else "is held back"
    blockers = facts["blockers"]
    named = ", ".join(
        f"pid {blocker['pid']} ({blocker['user'] or 'unknown'})" for blocker in blockers[:3]
    )
    more = f" and {len(blockers) - 3} more" if len(blockers) > 3 else ""
    return (
        f"Attempt {facts['attempt']} on {tables} {what}: "
        f"{named + more or 'nobody to be seen'} in the way"
    )
