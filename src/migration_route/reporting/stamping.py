"""Which code has answered? Every response says so."""

from __future__ import annotations

from django.http import HttpResponseBase
from django.utils.cache import add_never_cache_headers

from migration_route.planning import sources

BUILD_HEADER = "Migration-Route-Build"


def stamped(response: HttpResponseBase) -> HttpResponseBase:
    """Return the response with the build that made it, never to be kept by a cache."""
    response[BUILD_HEADER] = sources.build()
    add_never_cache_headers(response)
    return response
