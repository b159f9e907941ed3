"""What is still to be told to whom? Derived from the ledger, so that nothing is lost.

Each recipient has one row that says up to which entry its messages were made, and who
delivers them now; each message that has not arrived has a row of its own. An entry is on
record before anybody is told, and the outbox needs nothing but the ledger: whoever is
killed, at whatever instant, the next deliverer finds what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import IntegrityError
from django.db.models import Count, Min

from migration_route.conf import route_settings
from migration_route.conf.databases import ledger_transaction
from migration_route.core.clock import format_time
from migration_route.ledger import spool
from migration_route.ledger.bootstrap import is_installed
from migration_route.ledger.queries import read
from migration_route.ledger.records import EntryRecord, entry_record
from migration_route.models import Delivery, Entry, Outbox

_BATCH = 200
_FRESH = timedelta(hours=1)  # a recipient that is new hears of nothing older
_KEPT = timedelta(days=7)  # for so long it is shown what was given up

Choose = Callable[[EntryRecord], str | None]
"""Says which event an entry is for the recipient; None: it does not want it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingDelivery:
    """A message that has not arrived."""

    id: int
    recipient: str
    sequence: int  # of its entry
    event: str
    run: str
    at: str
    attempts: int
    due_at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboxStatus:
    """Is there something to do for a recipient?"""

    has_news: bool  # entries that were not looked at yet
    next_due: str | None  # of the messages that wait; None: none waits
    paused_until: str  # it did not answer; "": it did


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """How many messages wait for a recipient, and how many were given up lately."""

    recipient: str
    pending: int
    given_up: int


def is_installed_and_free() -> bool:
    """Tell whether there is a ledger, and no migration at work in its SQLite file."""
    alias = route_settings().ledger_database
    return not spool.migration_active(spool.spool_dir(alias)) and is_installed(alias)


def status(recipient: str) -> OutboxStatus:
    """Return, without writing anything, whether there is something to do."""
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


def lease(recipient: str, *, by: str, now: datetime, lasting: timedelta) -> bool:
    """Become the one who delivers to a recipient; False while another one is."""
    alias = route_settings().ledger_database
    rows = Outbox.objects.using(alias).filter(recipient=recipient)
    if not rows.exists():
        _begin(alias, recipient, now)
    free = rows.filter(leased_until__lt=format_time(now))
    return bool(free.update(leased_by=by, leased_until=format_time(now + lasting)))


def _begin(alias: str, recipient: str, now: datetime) -> None:
    """Let a recipient that is new hear of what is fresh, and of nothing before."""
    entries = Entry.objects.using(alias)
    older = entries.filter(at__lt=format_time(now - _FRESH)).order_by("-sequence").first()
    try:
        with ledger_transaction(alias):
            Outbox.objects.using(alias).create(
                recipient=recipient, sequence=older.sequence if older else 0
            )
    except IntegrityError:
        return  # another process saw it first


def renew_lease(recipient: str, *, by: str, now: datetime, lasting: timedelta) -> bool:
    """Go on being the one who delivers; False when another one has taken over."""
    rows = Outbox.objects.using(route_settings().ledger_database)
    mine = rows.filter(recipient=recipient, leased_by=by)
    return bool(mine.update(leased_until=format_time(now + lasting)))


def release_lease(recipient: str, *, by: str, paused_until: str) -> None:
    """Let another one deliver, after a pause if there is to be one."""
    rows = Outbox.objects.using(route_settings().ledger_database)
    rows.filter(recipient=recipient, leased_by=by).update(
        leased_by="", leased_until="", paused_until=paused_until
    )


def fill(recipient: str, choose: Choose, *, by: str) -> None:
    """Make messages of the entries that have come since; under the lease."""
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
        # Who has lost the lease in this moment moves nothing, and makes nothing.
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
    """Return the messages that have not arrived, oldest first."""
    rows = Delivery.objects.using(route_settings().ledger_database)
    pending = rows.filter(recipient=recipient, is_given_up=False).order_by("sequence")
    return [
        PendingDelivery(
            id=row.id,
            recipient=row.recipient,
            sequence=row.sequence,
            event=row.event,
            run=row.run,
            at=row.at,
            attempts=row.attempts,
            due_at=row.due_at,
        )
        for row in pending[:limit]
    ]


def entry_at(sequence: int) -> EntryRecord | None:
    """Return an entry; None when somebody has removed it."""
    rows = Entry.objects.using(route_settings().ledger_database)
    row = rows.filter(sequence=sequence).first()
    return None if row is None else entry_record(row)


def mark_delivered(message: PendingDelivery) -> None:
    """Take a message away: it has arrived."""
    rows = Delivery.objects.using(route_settings().ledger_database)
    rows.filter(pk=message.id).delete()


def mark_failed(
    message: PendingDelivery, *, due_at: str, error: str, is_given_up: bool
) -> None:
    """Write down that an attempt has failed; another deliverer's count is left alone."""
    rows = Delivery.objects.using(route_settings().ledger_database)
    rows.filter(pk=message.id, attempts=message.attempts).update(
        attempts=message.attempts + 1,
        due_at=due_at,
        error=error[:200],
        is_given_up=is_given_up,
    )


def purge(now: datetime) -> None:
    """Remove what was given up long ago."""
    rows = Delivery.objects.using(route_settings().ledger_database)
    rows.filter(at__lt=format_time(now - _KEPT), is_given_up=True).delete()


def backlogs(recipients: Collection[str]) -> list[Backlog]:
    """Return what waits for each recipient, also where there is no table yet."""

    def query(alias: str) -> dict[tuple[str, bool], int]:
        rows = Delivery.objects.using(alias).filter(recipient__in=list(recipients))
        counted = rows.values_list("recipient", "is_given_up").annotate(Count("id"))
        return {(name, given_up): count for name, given_up, count in counted.order_by()}

    nothing: dict[tuple[str, bool], int] = {}
    found = read(query, empty=nothing)
    return [
        Backlog(
            recipient=name,
            pending=found.get((name, False), 0),
            given_up=found.get((name, True), 0),
        )
        for name in recipients
    ]
