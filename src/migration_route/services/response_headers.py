"""The headers of every response: the build that produced it, and no caching."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import add_never_cache_headers

from migration_route.planning import sources

BUILD_HEADER = "Migration-Route-Build"


def with_response_headers(
    request: HttpRequest, response: HttpResponseBase
) -> HttpResponseBase:
    """Return the response with its build and with caching disabled.

    The response to a HEAD request keeps its headers and loses its body (RFC 9110, 9.3.2).
    """
    response[BUILD_HEADER] = sources.build()
    add_never_cache_headers(response)
    if request.method == "HEAD" and isinstance(response, HttpResponse):
        response["Content-Length"] = str(len(response.content))
        response.content = b""
    return response
