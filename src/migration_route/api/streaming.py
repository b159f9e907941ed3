"""Streamed responses: the events of a run and the export of the ledger.

An open stream occupies a sync worker and delays its shutdown. A stream of server-sent
events therefore sends what is new and closes after a while; `Last-Event-ID` resumes it
without a gap.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse

from migration_route.access.actors import Actor
from migration_route.api.requests import ExportQuery
from migration_route.conf import route_settings
from migration_route.core.errors import InvalidRequest
from migration_route.presentation import schemas
from migration_route.presentation.serializers import event_answer
from migration_route.services import ledger, runs

EXPORT_MEDIA = "application/jsonl"
_HEADERS = {
    "Content-Disposition": 'attachment; filename="migration-ledger.jsonl"',
    "X-Accel-Buffering": "no",
}


def get_export(
    request: HttpRequest, actor: Actor, query: ExportQuery
) -> HttpResponse | StreamingHttpResponse:
    """`GET ledger/export?after=N`: an error while the ledger is read ends the response
    early."""
    pieces = ledger.export(actor, after=query.after)
    if request.method == "HEAD":
        return HttpResponse(content_type=EXPORT_MEDIA, headers=_HEADERS)
    body = _asynchronous(pieces) if isinstance(request, ASGIRequest) else pieces
    return StreamingHttpResponse(body, content_type=EXPORT_MEDIA, headers=_HEADERS)


async def _asynchronous(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(partial(next, pieces, b""), thread_sensitive=True)
    while piece := await following():
        yield piece


LONGEST = 20.0
_PAUSE = 0.5
_RETRY_MS = 1000


def wants_stream(request: HttpRequest) -> bool:
    return "text/event-stream" in request.headers.get("Accept", "")


def after_last_event(request: HttpRequest, after: int) -> int:
    """Return the number after which to continue: the larger of `after` and
    `Last-Event-ID`."""
    text = request.headers.get("Last-Event-ID", "").strip()
    if not text:
        return after
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidRequest("Last-Event-ID must be the number of an event.")
    return max(after, int(text))


def stream(
    request: HttpRequest, run: str, actor: Actor, *, after: int
) -> StreamingHttpResponse:
    """Return the events after a number as they occur."""
    runs.show(run, actor)  # raises errors of the request before the stream starts
    until = time.monotonic() + min(
        LONGEST, route_settings().max_request_wait.total_seconds()
    )
    iterator = _streaming_asynchronous if isinstance(request, ASGIRequest) else _synchronous
    response = StreamingHttpResponse(
        iterator(run, actor, after, until), content_type="text/event-stream"
    )
    response["X-Accel-Buffering"] = "no"
    return response


def _synchronous(run: str, actor: Actor, after: int, until: float) -> Iterator[bytes]:
    yield f"retry: {_RETRY_MS}\n\n".encode()
    while True:
        chunk, after, ended = _new_events(run, actor, after)
        if chunk:
            yield chunk
        if ended or time.monotonic() > until:
            return
        if not chunk:
            time.sleep(_PAUSE)


async def _streaming_asynchronous(
    run: str, actor: Actor, after: int, until: float
) -> AsyncIterator[bytes]:
    yield f"retry: {_RETRY_MS}\n\n".encode()
    news = sync_to_async(_new_events, thread_sensitive=True)
    while True:
        chunk, after, ended = await news(run, actor, after)
        if chunk:
            yield chunk
        if ended or time.monotonic() > until:
            return
        if not chunk:
            await asyncio.sleep(_PAUSE)


def _new_events(run: str, actor: Actor, after: int) -> tuple[bytes, int, bool]:
    """Return new events as a piece of the stream; no connection stays open for it."""
    try:
        found = runs.events(run, actor, after=after)
    finally:
        connections.close_all()
    pieces = [
        b"id: %d\nevent: %s\ndata: %s\n\n"
        % (event.number, event.kind.encode(), schemas.to_json(event_answer(event)))
        for event in found.events
    ]
    if found.ended:
        pieces.append(b"event: end\ndata: {}\n\n")
    return b"".join(pieces), found.last, found.ended
