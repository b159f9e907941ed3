"""The bars of a run: when each step ran, and how long the others are expected to take."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from migration_route.core import clock
from migration_route.core.enums import EventKind, StepState
from migration_route.ledger.records import EventRecord, RunRecord

WIDTH = 1000
"""The length of the whole run in the units of the bars."""

_LEAST = 4  # units, so that a quick step stays visible
_LEAST_SPAN = 1000  # milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """The bar of one step, in units from the start of the first step."""

    start: int
    width: int  # of the time that the step has taken so far
    expected: int  # of its expected duration; 0: not known
    since_ms: int = 0  # when a running step started, since the epoch; 0: not running
    units_per_second: float = 0.0


def timeline(run: RunRecord, events: Iterable[EventRecord], *, now: str) -> list[Bar]:
    """Return a bar for each step; none while no step has started.

    A step that was repeated has the bar of its last attempt.
    """
    started: dict[str, float] = {}
    ended: dict[str, float] = {}
    origin: float | None = None
    for event in events:
        if event.kind == EventKind.STEP_STARTED:
            started[event.text] = _milliseconds(event.at)
            origin = started[event.text] if origin is None else origin
            ended.pop(event.text, None)
        elif event.kind == EventKind.STEP_FINISHED:
            ended[event.text] = _milliseconds(event.at)
    if origin is None:
        return []
    until = _milliseconds(now if run.is_active else run.finished_at or now)
    left = run.remaining_ms(now) or 0
    span = max(until - origin + left, _LEAST_SPAN)
    scale = WIDTH / span

    bars: list[Bar] = []
    cursor = until  # where the next step that has not started is expected to start
    current = next((step for step in run.steps if step.state is StepState.APPLYING), None)
    if current is not None and current.label in started and current.expected_ms:
        cursor = max(until, started[current.label] + current.expected_ms)
    for step in run.steps:
        expected = step.expected_ms or 0
        if step.label not in started:
            start, end = cursor, cursor
            cursor += expected if run.is_active else 0
            expected = expected if run.is_active else 0
        else:
            start = started[step.label]
            end = ended.get(step.label, until)
        is_running = run.is_active and step.state is StepState.APPLYING
        width = max(round((end - start) * scale), _LEAST) if end > start else 0
        bars.append(
            Bar(
                start=min(round((start - origin) * scale), WIDTH - _LEAST),
                width=width,
                expected=round(expected * scale),
                since_ms=round(start) if is_running and step.label in started else 0,
                units_per_second=round(1000 * scale, 3),
            )
        )
    return bars


def _milliseconds(at: str) -> float:
    return clock.parse_time(at).timestamp() * 1000
