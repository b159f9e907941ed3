"""Texts of notifications: JSON, one line for a chat, and email."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from migration_route.core.events import EventType, event_types_of
from migration_route.ledger.hashchain import ChainHead
from migration_route.ledger.records import EntryRecord, RunRecord
from migration_route.presentation import serializers
from migration_route.presentation.schemas.runs import NotificationMessage
from migration_route.presentation.text.runs import run_lines

_LONGEST = 300
_NO_WIDTH = "\u200b"
_EXPANDED = re.compile(
    r"[@#~!](?=[\w\[<&])."  # @channel, #channel, ~channel, an image
    r"|\]\(|\]\["  # [a link](…)
    r"|:/|//|www(?=\.)|(?<=\w)\.(?=[a-z]{2,24}\b)."  # addresses
    r"|<\S|[`*_~|]{2,}|:(?=\w+:).",  # <@user>, formatting, :emoji:
    re.IGNORECASE,
)
# Turns off expansion; receivers ignore unknown keys. Slack: api.slack.com,
# chat.postMessage. Discord: discord.com/developers, Execute Webhook.
_NO_EXPANSION: dict[str, Any] = {
    "mrkdwn": False,
    "link_names": False,
    "parse": "none",
    "unfurl_links": False,
    "unfurl_media": False,
    "allowed_mentions": {"parse": []},
}
_VERBS = {
    EventType.RUN_REQUESTED: "was requested",
    EventType.RUN_APPROVAL_NEEDED: "needs approval",
    EventType.RUN_APPROVED: "was approved",
    EventType.RUN_REJECTED: "was rejected",
    EventType.RUN_STARTED: "has started",
    EventType.RUN_RESUMED: "has resumed",
    EventType.RUN_LOST: "is lost: its process has no heartbeat",
    EventType.RUN_RESOLVED: "was resolved",
}
_SUBJECTS = {
    EventType.REHEARSAL_ENDED: "A rehearsal",
    EventType.MIGRATE_FINISHED: "A manual migrate",
}


def build_message(
    entry: EntryRecord, event: str, run: RunRecord | None, *, id_: str
) -> NotificationMessage:
    """Return the message about an entry."""
    return NotificationMessage(
        id=id_,
        event=event,
        at=entry.at,
        database=entry.database,
        summary=summary(entry, EventType(event), run),
        entry=serializers.entry_answer(entry),
        run=None if run is None else serializers.run_answer(run),
        ledger_head=_head_after(entry),
    )


def _head_after(entry: EntryRecord) -> str | None:
    """Return the entry as a head of the ledger if it ends a run; None otherwise."""
    if EventType.RUN_ENDED not in event_types_of(entry.action, entry.facts):
        return None
    return str(ChainHead(sequence=entry.sequence, digest=entry.digest))


def summary(entry: EntryRecord, edge: EventType, run: RunRecord | None) -> str:
    """Return what happened in one line."""
    where = f" on {entry.database}" if entry.database else ""
    subject = f"Run {entry.run}" if entry.run else _SUBJECTS.get(edge, "A request")
    return _one_line(f"{subject}{where} {_what(entry, edge)}{_who(entry, run)}")


def _what(entry: EntryRecord, edge: EventType) -> str:
    facts = entry.facts
    match edge:
        case EventType.RUN_WAITING | EventType.RUN_PAUSED:
            state = "is waiting" if edge is EventType.RUN_WAITING else "is paused"
            return f"{state}: {facts.get('waiting') or facts.get('reason') or 'no reason'}"
        case EventType.RUN_ENDED:
            error = facts.get("error") or {}
            why = f": {error.get('message', '')}" if error else ""
            return f"has ended: {facts.get('to')}{why}"
        case EventType.STEP_STARTED:
            return f"has started {facts.get('step')}"
        case EventType.STEP_FINISHED:
            return f"has finished {facts.get('step')}: {facts.get('state')}"
        case EventType.REHEARSAL_ENDED:
            return f"has ended: {facts.get('rehearsal')} {facts.get('state')}"
        case EventType.MIGRATE_FINISHED:
            return "has ended"
        case EventType.DENIED | EventType.REFUSED:
            return f"was {edge}: {facts.get('verb')}, {facts.get('code')}"
        case _:
            return _VERBS[edge]


def _who(entry: EntryRecord, run: RunRecord | None) -> str:
    if entry.actor_name:
        reason = entry.facts.get("reason")
        return f" (by {entry.actor_name}{f': {reason}' if reason else ''})"
    return f" (requested by {run.actor_name})" if run is not None else ""


def slack_body(message: NotificationMessage) -> bytes:
    """Return the body for a chat that accepts `{"text": …}`: Slack, Mattermost, Discord
    (its URL with `/slack`), Google Chat, Rocket.Chat."""
    body: dict[str, Any] = {"text": _plain(message.summary), **_NO_EXPANSION}
    return msgspec.json.encode(body)


def _plain(text: str) -> str:
    """Return text that no chat expands: a reason or an error cannot mention, link, load or
    format anything.

    Slack's three special characters are escaped as Slack documents. Other chats read
    Markdown and names and each escape differently; a zero-width space between the
    characters works for all of them.
    """
    text = _EXPANDED.sub(lambda match: _NO_WIDTH.join(match[0]), text)
    for character, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, escaped)
    return text


def mail_text(message: NotificationMessage) -> str:
    lines = [message.summary, "", f"{message.event}, {message.at}"]
    if message.run is not None:
        lines += ["", *run_lines(message.run)]
    return "\n".join([*lines, "", f"Event {message.id}", ""])


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
