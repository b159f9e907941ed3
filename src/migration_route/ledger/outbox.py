"""The outbox of notifications, derived from the ledger so that no message is lost.

Each recipient has one row with the last entry that was turned into messages and with the
current lease of a deliverer. Each undelivered message has its own row. An entry is recorded
before any message is sent, and the outbox needs only the ledger: whichever process is
killed, at any time, the next deliverer finds what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from django.db import IntegrityError
from django.db.models import Count, Min

from migration_route.conf import route_settings
from migration_route.conf.databases import ledger_transaction
from migration_route.core.clock import format_time
from migration_route.ledger import spool
from migration_route.ledger.bootstrap import is_installed
from migration_route.ledger.queries import read
from migration_route.ledger.records import EntryRecord, entry_record
from migration_route.models import Delivery, Entry, Outbox, columns_of

_BATCH = 200
_FRESH = timedelta(hours=1)  # a new recipient gets no message of an older entry
_KEPT = timedelta(days=7)  # how long abandoned messages are kept

Choose = Callable[[EntryRecord], str | None]
"""Returns the event that an entry is for the recipient; None: not subscribed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingDelivery:
    """A message that is not delivered."""

    id: int
    sequence: int  # of its entry
    event: str
    run: str
    at: str
    attempts: int
    due_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatus:
    """The pending work for a recipient."""

    has_news: bool  # there are entries that were not turned into messages
    next_due: str | None  # of the pending messages; None: there are none
    paused_until: str  # after a failed delivery; "": not paused


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The number of pending and of recently abandoned messages of a recipient."""

    recipient: str
    pending: int
    given_up: int


def is_installed_and_free() -> bool:
    """Whether the ledger is installed, and no migration uses its SQLite file."""
    alias = route_settings().ledger_database
    return not spool.migration_active(spool.spool_dir(alias)) and is_installed(alias)


def status(recipient: str) -> OutboxStatus:
    """Return the pending work for a recipient, without writing anything."""
    alias = route_settings().ledger_database
    row = Outbox.objects.using(alias).filter(recipient=recipient).first()
    if row is None:
        return OutboxStatus(has_news=True, next_due=None, paused_until="")
    pending = Delivery.objects.using(alias).filter(recipient=recipient, is_given_up=False)
    return OutboxStatus(
        has_news=Entry.objects.using(alias).filter(sequence__gt=row.sequence).exists(),
        next_due=pending.aggregate(next_due=Min("due_at"))["next_due"],
        paused_until=row.paused_until,
    )


def acquire_lease(recipient: str, *, by: str, now: datetime, lasting: timedelta) -> bool:
    """Acquire the lease of a recipient; False while another deliverer owns it."""
    alias = route_settings().ledger_database
    rows = Outbox.objects.using(alias).filter(recipient=recipient)
    if not rows.exists():
        _create_outbox(alias, recipient, now)
    free = rows.filter(leased_until__lt=format_time(now))
    return bool(free.update(leased_by=by, leased_until=format_time(now + lasting)))


def _create_outbox(alias: str, recipient: str, now: datetime) -> None:
    """Create the row of a new recipient, which gets messages of recent entries only."""
    entries = Entry.objects.using(alias)
    older = entries.filter(at__lt=format_time(now - _FRESH)).order_by("-sequence").first()
    try:
        with ledger_transaction(alias):
            Outbox.objects.using(alias).create(
                recipient=recipient, sequence=older.sequence if older else 0
            )
    except IntegrityError:
        return  # another process has created it


def renew_lease(recipient: str, *, by: str, now: datetime, lasting: timedelta) -> bool:
    """Extend the lease of a recipient; False when another deliverer has taken over."""
    rows = Outbox.objects.using(route_settings().ledger_database)
    leased = rows.filter(recipient=recipient, leased_by=by)
    return bool(leased.update(leased_until=format_time(now + lasting)))


def release_lease(recipient: str, *, by: str, paused_until: str) -> None:
    """Release a lease, and pause deliveries until `paused_until` if it is set."""
    rows = Outbox.objects.using(route_settings().ledger_database)
    rows.filter(recipient=recipient, leased_by=by).update(
        leased_by="", leased_until="", paused_until=paused_until
    )


def enqueue_new(recipient: str, choose: Choose, *, by: str) -> None:
    """Create messages of new entries, under the lease."""
    alias = route_settings().ledger_database
    while _fill_once(alias, recipient, choose, by) == _BATCH:
        pass


def _fill_once(alias: str, recipient: str, choose: Choose, by: str) -> int:
    with ledger_transaction(alias):
        rows = Outbox.objects.using(alias).filter(recipient=recipient, leased_by=by)
        seen = rows.values_list("sequence", flat=True).first()
        if seen is None:
            return 0
        new = Entry.objects.using(alias).filter(sequence__gt=seen).order_by("sequence")
        entries = [entry_record(row) for row in new[:_BATCH]]
        chosen = [(entry, choose(entry)) for entry in entries]
        # If the lease was just lost, nothing is updated or created.
        if entries and not rows.filter(sequence=seen).update(sequence=entries[-1].sequence):
            return 0
        Delivery.objects.using(alias).bulk_create(
            Delivery(
                recipient=recipient,
                sequence=entry.sequence,
                event=event,
                run=entry.run,
                at=entry.at,
                due_at=entry.at,
            )
            for entry, event in chosen
            if event is not None
        )
    return len(entries)


def pending(recipient: str, *, limit: int) -> list[PendingDelivery]:
    """Return the pending messages, oldest first."""
    rows = Delivery.objects.using(route_settings().ledger_database)
    pending = rows.filter(recipient=recipient, is_given_up=False).order_by("sequence")
    return msgspec.convert(
        [columns_of(row) for row in pending[:limit]], list[PendingDelivery]
    )


def entry_at(sequence: int) -> EntryRecord | None:
    """Return an entry; None when it was removed from the table."""
    rows = Entry.objects.using(route_settings().ledger_database)
    row = rows.filter(sequence=sequence).first()
    return None if row is None else entry_record(row)


def mark_delivered(message: PendingDelivery) -> None:
    """Delete a message that was delivered."""
    rows = Delivery.objects.using(route_settings().ledger_database)
    rows.filter(pk=message.id).delete()


def mark_failed(
    message: PendingDelivery, *, due_at: str, error: str, is_given_up: bool
) -> None:
    """Record a failed attempt, unless another deliverer has counted one meanwhile."""
    rows = Delivery.objects.using(route_settings().ledger_database)
    rows.filter(pk=message.id, attempts=message.attempts).update(
        attempts=message.attempts + 1,
        due_at=due_at,
        error=error[:200],
        is_given_up=is_given_up,
    )


def purge(now: datetime) -> None:
    """Delete abandoned messages that are older than seven days."""
    rows = Delivery.objects.using(route_settings().ledger_database)
    rows.filter(at__lt=format_time(now - _KEPT), is_given_up=True).delete()


def backlogs(recipients: Collection[str]) -> list[Backlog]:
    """Return the backlog of each recipient; zero if the ledger is not installed."""

    def query(alias: str) -> dict[tuple[str, bool], int]:
        rows = Delivery.objects.using(alias).filter(recipient__in=list(recipients))
        counted = rows.values_list("recipient", "is_given_up").annotate(Count("id"))
        return {(name, given_up): count for name, given_up, count in counted.order_by()}

    nothing: dict[tuple[str, bool], int] = {}
    counts = read(query, empty=nothing)
    return [
        Backlog(
            recipient=name,
            pending=counts.get((name, False), 0),
            given_up=counts.get((name, True), 0),
        )
        for name in recipients
    ]
