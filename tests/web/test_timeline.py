"""Tests of the bars of a run."""

from __future__ import annotations

from dataclasses import replace

from migration_route.core.enums import EventKind, RunState, StepState
from migration_route.ledger.records import EventRecord, RunRecord, StepRecord
from migration_route.web.timeline import WIDTH, timeline
from tests.factories import a_step_record

START = "2026-01-31T12:00:00.000000Z"


def at(seconds: float) -> str:
    """Return the stored time that many seconds after the start."""
    return f"2026-01-31T12:00:{seconds:09.6f}Z"


def event(kind: EventKind, step: StepRecord, seconds: float) -> EventRecord:
    """Return an event about a step."""
    return EventRecord(
        number=1,
        at=at(seconds),
        kind=kind,
        step=0,
        operation=None,
        duration_ms=None,
        text=step.label,
        facts={},
        digest="",
    )


def a_record(run: RunRecord, *steps: StepRecord, state: RunState) -> RunRecord:
    """Return the run with these steps, started at `START`."""
    return replace(run, steps=steps, state=state, started_at=START)


def test_before_the_first_step_there_are_no_bars(a_run) -> None:
    """A run that waits has none."""
    assert timeline(a_run(), [], now=START) == []


def test_ended_steps_follow_each_other(a_run) -> None:
    """The whole run has the full width, and a pause between two steps is a gap."""
    one, two = (
        replace(a_step_record(name=name), state=StepState.APPLIED) for name in ("a", "b")
    )
    run = a_record(a_run(), one, two, state=RunState.SUCCEEDED)
    run = replace(run, finished_at=at(10))
    first, second = timeline(
        run,
        [
            event(EventKind.STEP_STARTED, one, 0),
            event(EventKind.STEP_FINISHED, one, 2),
            event(EventKind.STEP_STARTED, two, 5),
            event(EventKind.STEP_FINISHED, two, 10),
        ],
        now=at(59),
    )
    assert (first.start, first.width) == (0, WIDTH // 5)
    assert (second.start, second.width) == (WIDTH // 2, WIDTH // 2)
    assert (first.since_ms, second.since_ms) == (0, 0)


def test_a_running_step_grows_and_the_next_one_is_expected_behind_it(a_run) -> None:
    """The bars leave room for the expected durations."""
    one = replace(a_step_record(name="a"), state=StepState.APPLYING, expected_ms=6000)
    two = replace(a_step_record(name="b"), expected_ms=4000)
    run = a_record(a_run(), one, two, state=RunState.RUNNING)
    first, second = timeline(run, [event(EventKind.STEP_STARTED, one, 0)], now=at(3))
    assert (first.start, first.width, first.expected) == (0, 300, 600)
    assert first.units_per_second == 100.0
    assert first.since_ms > 0
    assert (second.start, second.width, second.expected) == (600, 0, 400)


def test_a_repeated_step_has_the_bar_of_its_last_attempt(a_run) -> None:
    """Lock timeouts make the worker repeat a step."""
    one = replace(a_step_record(name="a"), state=StepState.APPLIED)
    run = a_record(a_run(), one, state=RunState.SUCCEEDED)
    run = replace(run, finished_at=at(10))
    (bar,) = timeline(
        run,
        [
            event(EventKind.STEP_STARTED, one, 0),
            event(EventKind.STEP_FINISHED, one, 1),
            event(EventKind.STEP_STARTED, one, 5),
            event(EventKind.STEP_FINISHED, one, 10),
        ],
        now=at(59),
    )
    assert (bar.start, bar.width) == (WIDTH // 2, WIDTH // 2)


def test_a_quick_step_stays_visible(a_run) -> None:
    """Its bar is never empty, and never leaves the picture."""
    one, two = (
        replace(a_step_record(name=name), state=StepState.APPLIED) for name in ("a", "b")
    )
    run = a_record(a_run(), one, two, state=RunState.SUCCEEDED)
    run = replace(run, finished_at=at(50))
    _, second = timeline(
        run,
        [
            event(EventKind.STEP_STARTED, one, 0),
            event(EventKind.STEP_FINISHED, one, 49.999),
            event(EventKind.STEP_STARTED, two, 49.999),
            event(EventKind.STEP_FINISHED, two, 50),
        ],
        now=at(59),
    )
    assert second.width > 0
    assert second.start + second.width <= WIDTH
