"""How does a message read? As JSON, as a line for a chat, as an e-mail."""

from __future__ import annotations

from typing import Any

import msgspec

from migration_route import wire
from migration_route.edges import Edge
from migration_route.ledger.records import EntryRecord, RunRecord
from migration_route.rendering.text import run_lines
from migration_route.reporting import serialize
from migration_route.wire.telling import HappeningMessage

_LONGEST = 300
_VERBS = {
    Edge.RUN_REQUESTED: "was requested",
    Edge.RUN_APPROVAL_NEEDED: "needs approval",
    Edge.RUN_APPROVED: "was approved",
    Edge.RUN_REJECTED: "was rejected",
    Edge.RUN_STARTED: "has started",
    Edge.RUN_RESUMED: "goes on",
    Edge.RUN_LOST: "is lost: its process gives no sign of life",
    Edge.RUN_RESOLVED: "was resolved",
}


def message_of(
    entry: EntryRecord, event: str, run: RunRecord | None, *, id_: str
) -> HappeningMessage:
    """Return the message that tells of an entry."""
    return HappeningMessage(
        id=id_,
        event=event,
        at=entry.at,
        database=entry.database,
        summary=summary(entry, Edge(event), run),
        entry=serialize.entry_answer(entry),
        run=None if run is None else serialize.run_answer(run),
    )


def summary(entry: EntryRecord, edge: Edge, run: RunRecord | None) -> str:
    """Return what happened in one line."""
    where = f" on {entry.database}" if entry.database else ""
    subject = f"Run {entry.run}{where}" if entry.run else f"Somebody{where}"
    return _one_line(f"{subject} {_what(entry, edge)}{_who(entry, run)}")


def _what(entry: EntryRecord, edge: Edge) -> str:
    facts = entry.facts
    match edge:
        case Edge.RUN_WAITING | Edge.RUN_HELD:
            word = "waits" if edge is Edge.RUN_WAITING else "is held"
            return f"{word}: {facts.get('waiting') or facts.get('reason') or 'no reason'}"
        case Edge.RUN_ENDED:
            error = facts.get("error") or {}
            why = f": {error.get('message', '')}" if error else ""
            return f"has ended: {facts.get('to')}{why}"
        case Edge.STEP_STARTED:
            return f"begins {facts.get('step')}"
        case Edge.STEP_FINISHED:
            return f"has ended {facts.get('step')}: {facts.get('state')}"
        case Edge.REHEARSAL_ENDED:
            return f"rehearsed: {facts.get('rehearsal')} {facts.get('state')}"
        case Edge.MIGRATE_FINISHED:
            return "typed migrate, and it has ended"
        case Edge.DENIED | Edge.REFUSED:
            return f"was {edge}: {facts.get('verb')}, {facts.get('code')}"
        case _:
            return _VERBS[edge]


def _who(entry: EntryRecord, run: RunRecord | None) -> str:
    if entry.actor_name:
        reason = entry.facts.get("reason")
        return f" (by {entry.actor_name}{f': {reason}' if reason else ''})"
    return f" (requested by {run.actor_name})" if run is not None else ""


def json_body(message: HappeningMessage) -> bytes:
    """Return the body for a machine."""
    return wire.to_json(message)


def slack_body(message: HappeningMessage) -> bytes:
    """Return the body for a chat that takes `{"text": …}`: Slack, Mattermost and others."""
    text = message.summary
    # Slack's three signs (api.slack.com, Formatting text): nobody is called by a reason.
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, written)
    body: dict[str, Any] = {"text": text}
    return msgspec.json.encode(body)


def mail_text(message: HappeningMessage) -> str:
    """Return the body of an e-mail."""
    lines = [message.summary, "", f"{message.event}, {message.at}"]
    if message.run is not None:
        lines += ["", *run_lines(message.run)]
    return "\n".join([*lines, "", f"Event {message.id}", ""])


def _one_line(text: str) -> str:
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
