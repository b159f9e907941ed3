"""Which body tells somebody what has happened?"""

from __future__ import annotations

from migration_route.wire.body import Answer
from migration_route.wire.ledger import EntryAnswer
from migration_route.wire.runs import RunAnswer


class HappeningMessage(Answer, frozen=True, kw_only=True):
    """What a webhook is sent: `entry` is what happened, word for word as it stands on the
    ledger; `run` is its run, as it was when the message was made."""

    id: str
    event: str
    at: str
    database: str
    summary: str
    entry: EntryAnswer
    run: RunAnswer | None
