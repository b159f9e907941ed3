"""What does a page say about a line of the ledger?"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime

from migration_route.ledger.records import EntryRecord
from migration_route.vocabulary import Action
from migration_route.web.wording import moment, words

_RUN = re.compile(r"[0-9a-f]{32}")
_TONES: dict[str, str] = {
    Action.DENIED: "bad",
    Action.REFUSED: "warning",
    Action.RESOLVED: "warning",
    Action.APPROVED: "good",
    Action.REJECTED: "bad",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryView:
    """A line of the ledger as a page shows it."""

    record: EntryRecord
    sequence: str
    at: datetime | None
    action: str
    tone: str
    actor: str
    summary: str
    facts: str
    is_of_a_run: bool  # a denial may name a run that never was


def entry_view(record: EntryRecord) -> EntryView:
    """Return a line of the ledger as a page shows it."""
    return EntryView(
        record=record,
        sequence=str(record.sequence),
        at=moment(record.at),
        action=words(record.action),
        tone=_TONES.get(record.action, "quiet"),
        actor=record.actor_name or words(record.actor_kind),
        summary=_summary(record),
        is_of_a_run=_RUN.fullmatch(record.run) is not None,
        facts=json.dumps(record.facts, indent=2, ensure_ascii=False, sort_keys=True),
    )


def _summary(record: EntryRecord) -> str:
    """Return the one fact that tells most."""
    facts = record.facts
    match record.action:
        case Action.RUN_STATE:
            return words(str(facts.get("to", "")))
        case Action.STEP_STARTED:
            return str(facts.get("step", ""))
        case Action.STEP_FINISHED:
            return f"{facts.get('step', '')}: {words(str(facts.get('state', '')))}"
        case Action.DENIED | Action.REFUSED:
            return str(facts.get("message", ""))
        case _:
            return str(facts.get("reason", "") or "")
