"""Which code has answered? Every response says so."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import add_never_cache_headers

from migration_route.planning import sources

BUILD_HEADER = "Migration-Route-Build"


def stamped(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Return the response with the build that made it, never to be kept by a cache; the
    answer to a HEAD keeps its headers and loses its body (RFC 9110, 9.3.2)."""
    response[BUILD_HEADER] = sources.build()
    add_never_cache_headers(response)
    if request.method == "HEAD" and isinstance(response, HttpResponse):
        response["Content-Length"] = str(len(response.content))
        response.content = b""
    return response
