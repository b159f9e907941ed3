"""How does a message read? As JSON, as a line for a chat, as an e-mail."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from migration_route.core.events import EventType
from migration_route.ledger.records import EntryRecord, RunRecord
from migration_route.presentation import schemas, serializers
from migration_route.presentation.schemas.runs import HappeningMessage
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
# What receivers are asked not to do; each ignores the keys that it does not know. Slack:
# api.slack.com, chat.postMessage. Discord: discord.com/developers, Execute Webhook.
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
    EventType.RUN_RESUMED: "goes on",
    EventType.RUN_LOST: "is lost: its process gives no sign of life",
    EventType.RUN_RESOLVED: "was resolved",
}


def build_message(
    entry: EntryRecord, event: str, run: RunRecord | None, *, id_: str
) -> HappeningMessage:
    """Return the message that tells of an entry."""
    return HappeningMessage(
        id=id_,
        event=event,
        at=entry.at,
        database=entry.database,
        summary=summary(entry, EventType(event), run),
        entry=serializers.entry_answer(entry),
        run=None if run is None else serializers.run_answer(run),
    )


def summary(entry: EntryRecord, edge: EventType, run: RunRecord | None) -> str:
    """Return what happened in one line."""
    where = f" on {entry.database}" if entry.database else ""
    subject = f"Run {entry.run}{where}" if entry.run else f"Somebody{where}"
    return _one_line(f"{subject} {_what(entry, edge)}{_who(entry, run)}")


def _what(entry: EntryRecord, edge: EventType) -> str:
    facts = entry.facts
    match edge:
        case EventType.RUN_WAITING | EventType.RUN_HELD:
            word = "waits" if edge is EventType.RUN_WAITING else "is held"
            return f"{word}: {facts.get('waiting') or facts.get('reason') or 'no reason'}"
        case EventType.RUN_ENDED:
            error = facts.get("error") or {}
            why = f": {error.get('message', '')}" if error else ""
            return f"has ended: {facts.get('to')}{why}"
        case EventType.STEP_STARTED:
            return f"begins {facts.get('step')}"
        case EventType.STEP_FINISHED:
            return f"has ended {facts.get('step')}: {facts.get('state')}"
        case EventType.REHEARSAL_ENDED:
            return f"rehearsed: {facts.get('rehearsal')} {facts.get('state')}"
        case EventType.MIGRATE_FINISHED:
            return "typed migrate, and it has ended"
        case EventType.DENIED | EventType.REFUSED:
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
    return schemas.to_json(message)


def slack_body(message: HappeningMessage) -> bytes:
    """Return the body for a chat that takes `{"text": …}`: Slack, Mattermost, Discord (its
    address with `/slack`), Google Chat, Rocket.Chat."""
    body: dict[str, Any] = {"text": _plain(message.summary), **_NO_EXPANSION}
    return msgspec.json.encode(body)


def _plain(text: str) -> str:
    """Return a text that no chat expands: nobody is mentioned, nothing is linked, loaded or
    formatted by what a reason or an error says.

    Slack's three signs are escaped as it asks for. Other chats read Markdown and names, and
    each escapes in another way; a space without width between the signs suits all of them.
    """
    text = _EXPANDED.sub(lambda match: _NO_WIDTH.join(match[0]), text)
    for sign, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(sign, written)
    return text


def mail_text(message: HappeningMessage) -> str:
    """Return the body of an e-mail."""
    lines = [message.summary, "", f"{message.event}, {message.at}"]
    if message.run is not None:
        lines += ["", *run_lines(message.run)]
    return "\n".join([*lines, "", f"Event {message.id}", ""])


def _one_line(text: str) -> str:
    line = " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
