"""The whole ledger to take away: `GET ledger/export`, as JSON Lines."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse

from migration_route.access.requests import find_actor
from migration_route.api import parsing
from migration_route.api.calls.ledger import EXPORT_MEDIA
from migration_route.operations import ledger

_LARGEST_NUMBER = 2**63 - 1
_HEADERS = {
    "Content-Disposition": 'attachment; filename="migration-ledger.jsonl"',
    "X-Accel-Buffering": "no",
}


def get_export(request: HttpRequest) -> HttpResponseBase:
    """`GET ledger/export?after=N`: what is read later breaks the answer off if it fails."""
    actor = find_actor(request)
    parsing.check_query(request, ("after",))
    after = parsing.number(request, "after", default=0, least=0, most=_LARGEST_NUMBER)
    pieces = ledger.export(actor, after=after)
    if request.method == "HEAD":
        return HttpResponse(content_type=EXPORT_MEDIA, headers=_HEADERS)
    body = _asynchronous(pieces) if isinstance(request, ASGIRequest) else pieces
    return StreamingHttpResponse(body, content_type=EXPORT_MEDIA, headers=_HEADERS)


async def _asynchronous(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    following = sync_to_async(partial(next, pieces, b""), thread_sensitive=True)
    while piece := await following():
        yield piece
