"""Who is to be told, and of what? The values of WEBHOOKS and MAIL.

What lets somebody post or sign is in no `repr`: not the secret, and not the address, which
often is the secret itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum, unique

from migration_route.edges import USUAL_EDGES, Edge


@unique
class Format(StrEnum):
    """In which shape a webhook wants its messages."""

    JSON = "json"
    SLACK = "slack"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """Somebody who is told, and of what."""

    name: str  # under which the outbox keeps what is still to be told
    events: frozenset[Edge] = USUAL_EDGES
    databases: frozenset[str] | None = None  # None: all
    timeout: timedelta = timedelta(seconds=10)  # of one attempt, as a whole
    give_up: timedelta = timedelta(hours=24)  # after which a message is not tried again


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook(Recipient):
    """An address that messages are posted to."""

    url: str = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)  # each signs: rotation
    format: Format = Format.JSON
    insecure: bool = False  # may the address be http: ?


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail(Recipient):
    """People who get an e-mail, through the project's own mail settings."""

    to: tuple[str, ...]
    sender: str | None = None  # None: DEFAULT_FROM_EMAIL
    subject_prefix: str = "[migrations] "
