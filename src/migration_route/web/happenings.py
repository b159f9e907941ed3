"""What does the page of a run say about what happened in it?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from migration_route.ledger.records import EventRecord
from migration_route.vocabulary import EventKind
from migration_route.web.wording import duration, offset, words

# What is told by the steps above the lines, or by the line that comes next.
_SILENT = frozenset({EventKind.OPERATION_FINISHED, EventKind.STATEMENT_RUNNING})


@dataclass(frozen=True, slots=True, kw_only=True)
class LineView:
    """An event as a line; `static/migration_route/route.js` makes the same."""

    offset: str  # "+1.24 s" after the run was asked for
    kind: str  # an `EventKind`, unless somebody has tampered with the row
    text: str
    duration: str
    details: str  # a traceback


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is being done."""

    step: str
    operation: str
    statement: str  # one that has been running for a while
    since: str  # when the step began


def line_views(events: Iterable[EventRecord], *, since: str) -> list[LineView]:
    """Return the lines of a run, in order."""
    return [
        LineView(
            offset=offset(since, event.at),
            kind=event.kind,
            text=_text(event),
            duration=duration(event.duration_ms),
            details=str(event.facts.get("traceback") or ""),
        )
        for event in events
        if event.kind not in _SILENT
    ]


def _text(event: EventRecord) -> str:
    match event.kind:
        case EventKind.STATE:
            return f"State: {words(event.text)}"
        case EventKind.STEP_STARTED:
            return f"{event.text} begins"
        case EventKind.STEP_FINISHED:
            return f"{event.text} is done"
        case EventKind.STATEMENTS_OMITTED:
            return f"… and {event.facts.get('count', 'more')} more statements"
        case _:
            return event.text


def current_work(events: Iterable[EventRecord]) -> Work | None:
    """Return what was begun last and has not ended."""
    work: Work | None = None
    for event in events:
        match event.kind:
            case EventKind.STEP_STARTED:
                work = Work(step=event.text, operation="", statement="", since=event.at)
            case EventKind.STEP_FINISHED:
                work = None
            case EventKind.OPERATION_STARTED if work:
                work = replace(work, operation=event.text, statement="")
            case EventKind.STATEMENT_RUNNING if work:
                work = replace(work, statement=event.text)
            case EventKind.STATEMENT if work:
                work = replace(work, statement="")
            case _:
                pass
    return work
