"""Of which trace is this request a part? (W3C Trace Context, Level 1.)

The process of a run is told in the environment variable TRACEPARENT, as pipelines tell the
commands that they start: so a run's span stands below the request that asked for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

VARIABLE = "TRACEPARENT"
_FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_given: ContextVar[str] = ContextVar("migration_route_traceparent", default="")


@contextmanager
def traceparent_scope(traceparent: str) -> Iterator[None]:
    """Let what is started in the block be a part of the trace that this header names; a
    header that is none is no header."""
    token = _given.set(traceparent if _FORM.fullmatch(traceparent) else "")
    try:
        yield
    finally:
        _given.reset(token)


def current() -> str:
    """Return the trace parent of this moment: the span that OpenTelemetry has open here,
    else the one that the request named; "" where there is none."""
    try:
        from opentelemetry import trace
    except ImportError:
        return _given.get()
    span = trace.get_current_span().get_span_context()
    if not span.is_valid:
        return _given.get()
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"
