"""What does a page say about when a run may begin?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.http import QueryDict
from django.utils import timezone

from migration_route import clock
from migration_route.deciding.windows import (
    HORIZON,
    Later,
    Never,
    Opening,
    instant,
    is_shown,
)
from migration_route.errors import InvalidRequest
from migration_route.ledger.records import RunRecord
from migration_route.vocabulary import WaitingReason
from migration_route.web.wording import moment

_AS_TYPED = "%Y-%m-%dT%H:%M"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningView:
    """When a run might begin, and what the field for it may take."""

    at: datetime | None  # None: now, or never
    is_never: bool
    why: str  # "" where it may begin now
    zone: str  # in which a time is typed and shown
    least: str  # as a browser's field takes it
    most: str
    typed: str  # what stood in the field, on a page that is shown again


def opening_view(found: Opening, *, typed: str = "") -> OpeningView:
    """Return an opening as the page of a plan shows it."""
    now = clock.current().astimezone(timezone.get_current_timezone())
    return OpeningView(
        at=found.at if isinstance(found, Later) else None,
        is_never=isinstance(found, Never),
        why=found.why if isinstance(found, Later | Never) else "",
        zone=timezone.get_current_timezone_name(),
        least=now.strftime(_AS_TYPED),
        most=(now + HORIZON).strftime(_AS_TYPED),
        typed=typed,
    )


def begin_at(words: QueryDict) -> datetime | None:
    """Read when a run is to begin, by the clock of this site; None for at once. Raises
    `InvalidRequest`."""
    text = words.get("at", "").strip()
    if not text:
        return None
    try:
        wall = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"{text[:50]!r} is no time to begin at.") from error
    if wall.tzinfo is not None:
        return wall
    zone = timezone.get_current_timezone()
    try:
        is_told = is_shown(wall, zone)
    except OverflowError as error:
        raise InvalidRequest(f"{text[:50]!r} is out of range.") from error
    if not is_told:
        raise InvalidRequest(
            f"{text[:50]} is left out when the clock is put forward that day in "
            f"{timezone.get_current_timezone_name()}.",
            hint="Take an earlier or a later time.",
        )
    return instant(wall, zone)


OPENING_SENTENCES = {
    WaitingReason.TIME: (
        "Waiting: it was asked for at a later time.",
        "It begins by itself, in a process of its own. Nothing of it has begun.",
    ),
    WaitingReason.WINDOW: (
        "Waiting: no window is open.",
        "It goes on by itself when one opens.",
    ),
    WaitingReason.FREEZE: (
        "Waiting: nothing begins in a freeze.",
        "It begins by itself when the freeze has ended.",
    ),
    WaitingReason.CARRIER: (
        "Waiting for a worker: no process has taken it yet.",
        "It begins when a worker comes for it: 'manage.py migration_route work', or that "
        "of the task queue. Nothing of it has begun.",
    ),
}
"""What is so, and what comes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShutView:
    """What keeps a run from beginning, or from its next step."""

    opens: datetime | None
    why: str


def shut_view(record: RunRecord) -> ShutView | None:
    """Return it; None where it is not a time, a window or a freeze."""
    is_window = record.waiting_reason == WaitingReason.WINDOW
    if not (record.waits_to_begin or is_window):
        return None
    why = record.waiting_facts.get("why", "")
    return ShutView(opens=moment(record.waiting_until), why=why)
