"""URLs of the JSON API, below `api/v1/`."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponseBase
from django.urls import path

from migration_route.api import streaming, views
from migration_route.api.base import endpoint
from migration_route.core.errors import InvalidRequest


class UnknownAddress(InvalidRequest):
    """The API has no such URL."""

    code = "unknown_address"
    http_status = 404
    hint = "See openapi.json for the URLs of the API."


def unknown_address(request: HttpRequest, **_: str) -> HttpResponseBase:
    raise UnknownAddress(f"The API has no URL {request.path[:200]!r}.")


_EVERY = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), unknown_address)

urlpatterns = [
    path("status", endpoint({"GET": views.get_status}), name="api-status"),
    path("ready", endpoint({"GET": views.get_ready}), name="api-ready"),
    path("plan", endpoint({"GET": views.get_plan}), name="api-plan"),
    path("health", endpoint({"GET": views.get_health}), name="api-health"),
    path(
        "runs",
        endpoint({"GET": views.get_runs, "POST": views.post_runs}),
        name="api-runs",
    ),
    path("runs/<str:run>", endpoint({"GET": views.get_run}), name="api-run"),
    path("runs/<str:run>/events", endpoint({"GET": views.get_events}), name="api-events"),
    path(
        "runs/<str:run>/approve",
        endpoint({"POST": views.post_approve}),
        name="api-approve",
    ),
    path(
        "runs/<str:run>/reject",
        endpoint({"POST": views.post_reject}),
        name="api-reject",
    ),
    path(
        "runs/<str:run>/cancel",
        endpoint({"POST": views.post_cancel}),
        name="api-cancel",
    ),
    path("runs/<str:run>/pause", endpoint({"POST": views.post_pause}), name="api-pause"),
    path(
        "runs/<str:run>/resume",
        endpoint({"POST": views.post_resume}),
        name="api-resume",
    ),
    path(
        "runs/<str:run>/resolve",
        endpoint({"POST": views.post_resolve}),
        name="api-resolve",
    ),
    path(
        "runs/<str:run>/terminate-blockers",
        endpoint({"POST": views.post_terminate_blockers}),
        name="api-terminate-blockers",
    ),
    path(
        "rehearsals",
        endpoint({"GET": views.get_rehearsals, "POST": views.post_rehearsals}),
        name="api-rehearsals",
    ),
    path(
        "rehearsals/<str:rehearsal>",
        endpoint({"GET": views.get_rehearsal}),
        name="api-rehearsal",
    ),
    path(
        "reauthenticate",
        endpoint({"POST": views.post_reauthenticate}),
        name="api-reauthenticate",
    ),
    path("ledger", endpoint({"GET": views.get_ledger}), name="api-ledger"),
    path("ledger/export", endpoint({"GET": streaming.get_export}), name="api-export"),
    path("ledger/verify", endpoint({"GET": views.get_verification}), name="api-verify"),
    path("openapi.json", endpoint({"GET": views.get_openapi}), name="api-openapi"),
    path("", endpoint(_EVERY), name="api-nowhere"),
    path("<path:rest>", endpoint(_EVERY), name="api-nowhere"),
]
