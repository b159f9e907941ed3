"""OpenTelemetry spans: one for a run, and one below it for each step.

Spans are built from ledger entries, with their times, on the thread of the signals: a slow
exporter delays no run. Without the package `opentelemetry-api` (extra `otel`), nothing
happens.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from migration_route import __version__, signals
from migration_route.core import subprocesses
from migration_route.core.clock import parse_time
from migration_route.core.enums import RunState, StepState
from migration_route.core.events import EventType, RunEvent
from migration_route.ledger.queries import find_run

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

_AT_THE_END = 3.0  # seconds that an exporter gets at the end of a run
_WELL = frozenset({RunState.SUCCEEDED, RunState.NOOP, RunState.RESOLVED})
_STEP_WELL = frozenset({StepState.APPLIED, StepState.REVERTED})
_PREFIX = "migration_route."


@contextmanager
def traced(run: str) -> Iterator[None]:
    """Create the spans of this run during the block."""
    try:
        from opentelemetry import trace  # noqa: F401 - raises if not installed
    except ImportError:
        yield
        return
    spans = _Spans(run)
    received = (
        EventType.RUN_STARTED,
        EventType.STEP_STARTED,
        EventType.STEP_FINISHED,
        EventType.RUN_ENDED,
    )
    for edge in received:
        signals.SIGNALS[edge].connect(spans.receive)
    try:
        yield
    finally:
        signals.settle(_AT_THE_END)
        for edge in received:
            signals.SIGNALS[edge].disconnect(spans.receive)


class _Spans:
    """The open spans of one run."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._of_run: Span | None = None
        self._of_step: Span | None = None

    def receive(self, event: RunEvent, **_: Any) -> None:
        if event.run != self._run:
            return
        at = int(parse_time(event.at).timestamp() * 1_000_000) * 1000
        match event.edge:
            case EventType.RUN_STARTED:
                self._of_run = self._begin_run(at)
            case EventType.STEP_STARTED if self._of_run is not None:
                self._of_step = self._begin_step(event, at, self._of_run)
            case EventType.STEP_FINISHED if self._of_step is not None:
                state = event.facts.get("state")
                _end(self._of_step, at, state, event, is_well=state in _STEP_WELL)
                self._of_step = None
            case EventType.RUN_ENDED if self._of_run is not None:
                state = event.facts.get("to")
                if self._of_step is not None:  # the ledger has no end of the step
                    _end(self._of_step, at, state, event, is_well=False)
                _end(self._of_run, at, state, event, is_well=state in _WELL)
                self._of_run = None

    def _begin_run(self, at: int) -> Span:
        from opentelemetry.trace.propagation.tracecontext import (
            TraceContextTextMapPropagator,
        )

        parent = os.environ.get(subprocesses.TRACEPARENT, "")
        context = TraceContextTextMapPropagator().extract({"traceparent": parent})
        run = find_run(self._run)
        return _tracer().start_span(
            "migration run",
            context=context,
            start_time=at,
            attributes={
                f"{_PREFIX}run": run.id,
                f"{_PREFIX}database": run.database,
                f"{_PREFIX}direction": run.direction.value,
                f"{_PREFIX}mode": run.mode.value,
                f"{_PREFIX}fingerprint": run.fingerprint,
                f"{_PREFIX}build": run.build,
                f"{_PREFIX}requested_by": run.actor_name,
                f"{_PREFIX}steps": len(run.steps),
            },
        )

    def _begin_step(self, event: RunEvent, at: int, parent: Span) -> Span:
        from opentelemetry.trace import set_span_in_context

        step = str(event.facts.get("step"))
        return _tracer().start_span(
            f"migration step {step}",
            context=set_span_in_context(parent),
            start_time=at,
            attributes={
                f"{_PREFIX}step": step,
                f"{_PREFIX}direction": str(event.facts.get("direction")),
            },
        )


def _tracer() -> Tracer:
    from opentelemetry import trace

    return trace.get_tracer("migration_route", __version__)


def _end(span: Span, at: int, state: Any, event: RunEvent, *, is_well: bool) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute(f"{_PREFIX}state", str(state))
    if outcome := event.facts.get("outcome"):
        span.set_attribute(f"{_PREFIX}outcome", str(outcome))
    if not is_well:
        error = event.facts.get("error") or {}
        span.set_status(Status(StatusCode.ERROR, str(error.get("message") or state)))
    span.end(end_time=at)
