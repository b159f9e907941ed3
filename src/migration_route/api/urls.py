"""URLs of the JSON API, below `api/v1/`."""

from __future__ import annotations

from collections.abc import Iterator

from django.http import HttpRequest, HttpResponseBase
from django.urls import URLPattern, path

from migration_route.access.isolation import View
from migration_route.api.endpoints import CALLS
from migration_route.api.openapi import get_openapi
from migration_route.api.views import endpoint
from migration_route.core.errors import InvalidRequest


class UnknownAddress(InvalidRequest):
    """The API has no such URL.

    There is no such address below `api/v1/`.
    """

    code = "unknown_address"
    http_status = 404
    hint = "See openapi.json for the URLs of the API."


def unknown_address(request: HttpRequest, **_: str) -> HttpResponseBase:
    raise UnknownAddress(f"The API has no URL {request.path[:200]!r}.")


_EVERY = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), unknown_address)


def _listed() -> Iterator[URLPattern]:
    methods: dict[tuple[str, str], dict[str, View]] = {}
    for call in CALLS:
        views = methods.setdefault((call.route, call.url_name), {})
        views[call.method.upper()] = call.view_function
    for (route, name), views in methods.items():
        yield path(route, endpoint(views), name=name)


urlpatterns = [
    *_listed(),
    path("openapi.json", endpoint({"GET": get_openapi}), name="api-openapi"),
    path("", endpoint(_EVERY), name="api-nowhere"),
    path("<path:rest>", endpoint(_EVERY), name="api-nowhere"),
]
