"""One pass over the outbox: delivers what is due and returns when more is due."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from django.db import Error as DatabaseFailure

from migration_route.conf import route_settings
from migration_route.conf.databases import using_private_connection
from migration_route.conf.notifications import Mail, Recipient, Webhook
from migration_route.core.clock import format_time, parse_time
from migration_route.core.errors import DatabaseUnavailable, UnknownRun
from migration_route.core.events import event_types_of
from migration_route.ledger import outbox
from migration_route.ledger.queries import find_run
from migration_route.ledger.records import EntryRecord, RunRecord
from migration_route.notifications.delivery import (
    DeliveryFailure,
    post_webhook,
    retry_delay,
    send_mail,
)
from migration_route.notifications.messages import build_message

logger = logging.getLogger("migration_route.notifications")

_PATIENCE = 1.0  # seconds to wait for a locked SQLite file
_AGAIN = timedelta(seconds=1)  # until the next attempt to write the ledger
_MORE_THAN_AN_ATTEMPT = timedelta(seconds=15)
_MOST = 100  # messages of one recipient in one pass
_SEEN = 1000  # messages that are searched for those due


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """The result of delivering the messages of one recipient."""

    next_due: datetime | None
    paused_until: str = ""


def deliver_due(now: datetime | None = None) -> datetime | None:
    """Deliver all due messages; return when the next one is due, None if none is left.

    Any number of processes may call it: one of them at a time serves a recipient. It raises
    nothing: what cannot be delivered now is retried later.
    """
    dues = []
    for recipient in route_settings().recipients:
        try:
            dues.append(_deliver_to(recipient, now or datetime.now(UTC)))
        except (DatabaseFailure, DatabaseUnavailable):
            logger.warning("The outbox cannot be read or written now.", exc_info=True)
            dues.append(datetime.now(UTC) + _AGAIN)
    return min((due for due in dues if due is not None), default=None)


def _deliver_to(recipient: Recipient, now: datetime) -> datetime | None:
    me, lasting = uuid4().hex, recipient.timeout + _MORE_THAN_AN_ATTEMPT
    with using_private_connection(route_settings().ledger_database, patience=_PATIENCE):
        if not outbox.is_installed_and_free():
            return now + _AGAIN
        found = outbox.status(recipient.name)
        if found.paused_until > format_time(now):
            return parse_time(found.paused_until)
        if not found.has_news and (
            found.next_due is None or found.next_due > format_time(now)
        ):
            return None if found.next_due is None else parse_time(found.next_due)
        if not outbox.acquire_lease(recipient.name, by=me, now=now, lasting=lasting):
            return now + _AGAIN  # another process is delivering
        result = _Result(next_due=now + _AGAIN)
        try:
            outbox.enqueue_new(
                recipient.name, lambda entry: _event(recipient, entry), by=me
            )
            result = _deliver_in_order(recipient, me, lasting, now)
        finally:
            outbox.release_lease(recipient.name, by=me, paused_until=result.paused_until)
    return result.next_due


def _event(recipient: Recipient, entry: EntryRecord) -> str | None:
    return recipient.event_type_for(
        event_types_of(entry.action, entry.facts), entry.database
    )


def _deliver_in_order(
    recipient: Recipient, me: str, lasting: timedelta, now: datetime
) -> _Result:
    """Deliver what is due; of one run, nothing before all earlier messages are
    delivered."""
    stuck: dict[str, str] = {}  # run: when its first message is due again
    tried = 0
    for message in outbox.pending(recipient.name, limit=_SEEN):
        key = message.run or message.at + str(message.id)  # without a run: in no order
        if key in stuck:
            continue
        if message.due_at > format_time(now):
            stuck[key] = message.due_at
            continue
        if tried == _MOST:
            return _Result(next_due=now)
        tried += 1
        began = datetime.now(UTC)
        if not outbox.renew_lease(recipient.name, by=me, now=began, lasting=lasting):
            return _Result(next_due=now + _AGAIN)
        failure = _attempt(recipient, message)
        if failure is None:
            outbox.mark_delivered(message)
            continue
        due = _record_failure(recipient, message, failure)
        if not failure.is_about_the_message:
            return _Result(next_due=due, paused_until=format_time(due))
        stuck[key] = format_time(due)
    return _Result(next_due=min(map(parse_time, stuck.values()), default=None))


def _attempt(recipient: Recipient, due: outbox.PendingDelivery) -> DeliveryFailure | None:
    entry = outbox.entry_at(due.sequence)
    if entry is None:
        return None  # deleted from the ledger by hand; `ledger verify` reports it
    run = _run_of(entry)
    try:
        message = build_message(entry, due.event, run, id_=entry.uid)
    except (AttributeError, KeyError, TypeError, ValueError):
        # A damaged entry must not block the others.
        logger.exception("No message can be made of entry %d.", entry.sequence)
        return DeliveryFailure(error="unreadable entry", is_about_the_message=True)
    match recipient:
        case Webhook():
            return post_webhook(recipient, message)
        case Mail():
            return send_mail(recipient, message)
        case _:
            raise AssertionError(recipient)


def _run_of(entry: EntryRecord) -> RunRecord | None:
    try:
        return find_run(entry.run) if entry.run else None
    except UnknownRun:
        return None


def _record_failure(
    recipient: Recipient, message: outbox.PendingDelivery, failure: DeliveryFailure
) -> datetime:
    """Record a failure; return when the next attempt is due."""
    now = datetime.now(UTC)
    due = now + retry_delay(message.attempts + 1, failure.request)
    too_old = now - parse_time(message.at) > recipient.give_up
    outbox.mark_failed(
        message, due_at=format_time(due), error=failure.error, is_given_up=too_old
    )
    if too_old:
        outbox.purge(now)
    logger.warning(
        "%s of %s was not delivered to %s (%s, attempt %d)%s",
        message.event,
        message.run or "no run",
        recipient.name,
        failure.error,
        message.attempts + 1,
        ": given up" if too_old else "",
    )
    return due
