"""Reads WEBHOOKS and EMAIL: the recipients of notifications.

Credentials are excluded from `repr`: secrets, and URLs, which often are a secret.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum, unique
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from migration_route.core.clock import duration
from migration_route.core.events import DEFAULT_EVENT_TYPES, EventType
from migration_route.core.setting_values import (
    Invalid,
    Reader,
    duration_or_none,
    is_line,
    is_list_of,
    optional,
    read_aliases,
    read_boolean,
    read_entries,
    read_item,
    read_items,
    reader,
    refuse_unknown_keys,
)


@unique
class WebhookFormat(StrEnum):
    JSON = "json"
    SLACK = "slack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """A recipient of notifications, and the events that it receives."""

    name: str  # key of its messages in the outbox
    events: frozenset[EventType] = DEFAULT_EVENT_TYPES
    databases: frozenset[str] | None = None  # None: all
    timeout: timedelta = timedelta(seconds=10)  # of one attempt in total
    give_up: timedelta = timedelta(hours=24)  # after which a message is not retried

    def event_type_for(
        self, edges: tuple[EventType, ...], database: str
    ) -> EventType | None:
        """Return the first of the event types, ordered by importance, that it wants."""
        if self.databases is not None and database not in self.databases:
            return None
        return next((edge for edge in edges if edge in self.events), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook(Recipient):
    """A URL that messages are posted to."""

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)  # each one signs, for rotation
    format: WebhookFormat = WebhookFormat.JSON
    insecure: bool = False  # allow http


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail(Recipient):
    """Email addresses that receive messages, sent with the project's own email settings."""

    to: tuple[str, ...]
    sender: str | None = None  # None: DEFAULT_FROM_EMAIL
    subject_prefix: str = "[migrations] "


# No problem repeats a value: an address or a secret must not end up in a log.
_reader = partial(reader, shown=False)

_LONGEST_NAME = 60
_LONGEST_TIMEOUT = timedelta(seconds=60)
_SHORTEST_SECRET = 16
_REPEATED = "'name' must be unique."
_COMMON = ("events", "databases", "timeout", "give_up", "name")
WEBHOOK_KEYS = ("url", "secret", "secrets", "format", "insecure", *_COMMON)
EMAIL_KEYS = ("to", "from", "subject_prefix", *_COMMON)


def read_webhooks(value: Any) -> tuple[Webhook, ...]:
    """Read WEBHOOKS, a list of dicts. Raises `Invalid`."""
    return read_entries(value, _webhook, unique=_names, repeated=_REPEATED)


def read_mail(value: Any) -> tuple[Mail, ...]:
    """Read EMAIL, a dict or a list of dicts. Raises `Invalid`."""
    entries = [value] if isinstance(value, Mapping) else value
    return read_entries(entries, _mail, unique=_names, repeated=_REPEATED)


def _names(recipient: Recipient) -> tuple[str, ...]:
    return (recipient.name,)


def _webhook(entry: Mapping[str, Any]) -> Webhook:
    refuse_unknown_keys(entry, WEBHOOK_KEYS)
    insecure = read_item(entry, "insecure", read_boolean, default=False)
    url = entry.get("url")
    host = _host(url, may_be_plain=insecure)
    form = read_item(entry, "format", _format, WebhookFormat.JSON)
    secrets = _secrets(entry)
    mark = hashlib.sha256(str(url).encode()).hexdigest()[:8]
    name = f"{host[: _LONGEST_NAME - 9]}-{mark}"
    words = {"name": name, **read_items(entry, _RECIPIENT)}
    return Webhook(url=str(url), secrets=secrets, format=form, insecure=insecure, **words)


def _mail(entry: Mapping[str, Any]) -> Mail:
    refuse_unknown_keys(entry, EMAIL_KEYS)
    to = entry.get("to")
    to = [to] if isinstance(to, str) else to
    if not isinstance(to, list | tuple) or not to or not all(map(_is_address, to)):
        raise Invalid("'to' must be a list of email addresses.")
    sender = read_item(entry, "from", optional(_address))
    words = {"name": "mail", **read_items(entry, _MAIL)}
    return Mail(to=tuple(to), sender=sender, **words)


def _is_address(given: Any) -> bool:
    return isinstance(given, str) and "@" in given and given.isprintable()


def _host(url: Any, *, may_be_plain: bool) -> str:
    if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
        raise Invalid("'url' must be a string of printable ASCII without spaces.")
    try:
        found = urlsplit(url)
        host, _ = found.hostname, found.port
    except ValueError:
        raise Invalid("'url' is not a valid URL.") from None
    if found.scheme not in {"https", "http"} or not host:
        raise Invalid("'url' must start with https:// and name a host.")
    if found.scheme == "http" and not may_be_plain:
        raise Invalid("'url' must use https. To allow http, set \"insecure\": True.")
    if found.username is not None or found.password is not None:
        raise Invalid("'url' must not contain credentials. Use 'secret' to sign.")
    return host


def _secrets(entry: Mapping[str, Any]) -> tuple[str, ...]:
    if "secret" in entry and "secrets" in entry:
        raise Invalid("'secret' and 'secrets' cannot both be set.")
    found = [entry["secret"]] if "secret" in entry else entry.get("secrets", ())
    is_good = isinstance(found, list | tuple) and all(
        isinstance(each, str) and len(each) >= _SHORTEST_SECRET for each in found
    )
    if not is_good:
        raise Invalid(
            f"each secret must be a string of at least {_SHORTEST_SECRET} characters."
        )
    return tuple(found)


def _timeout(value: Any) -> timedelta:
    found = duration_or_none(value)
    if not found:
        raise Invalid("must be a duration such as '10s'.")
    if found > _LONGEST_TIMEOUT:
        raise Invalid("must be at most '60s'.")
    return found


_address = _reader("an email address", _is_address)
_format = _reader(
    " or ".join(WebhookFormat), lambda value: value in list(WebhookFormat), WebhookFormat
)
_RECIPIENT: dict[str, Reader] = {
    "name": _reader(
        f"a string of 1 to {_LONGEST_NAME} characters",
        lambda value: is_line(value, _LONGEST_NAME),
    ),
    "timeout": _timeout,
    "events": optional(
        _reader(
            f'"*" or a list of {", ".join(EventType)}',
            lambda value: value == "*" or (is_list_of(value, EventType) and value),
            lambda value: frozenset(map(EventType, EventType if value == "*" else value)),
        )
    ),
    "databases": optional(read_aliases),
    "give_up": _reader("a duration such as '24h'", duration_or_none, duration),
}
_MAIL = {
    "subject_prefix": _reader(
        "a one-line string", lambda value: isinstance(value, str) and value.isprintable()
    ),
    **_RECIPIENT,
}
