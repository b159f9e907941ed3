"""The trace that a request belongs to (W3C Trace Context, Level 1).

The process of a run receives it in the environment variable TRACEPARENT, as CI pipelines
pass it to their commands. So the span of a run is a child of the request that started it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

VARIABLE = "TRACEPARENT"
_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_requested: ContextVar[str] = ContextVar("migration_route_traceparent", default="")


@contextmanager
def traceparent_scope(traceparent: str) -> Iterator[None]:
    """Make the processes started in this block part of the trace of this header; an invalid
    header is ignored."""
    token = _requested.set(traceparent if _FORM.fullmatch(traceparent) else "")
    try:
        yield
    finally:
        _requested.reset(token)


def current() -> str:
    """Return the current trace parent: the open OpenTelemetry span, or else the one of the
    request; "" where there is none."""
    try:
        from opentelemetry import trace
    except ImportError:
        return _requested.get()
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return _requested.get()
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
