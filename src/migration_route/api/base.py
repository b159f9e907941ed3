"""What all views of the JSON API share: responses, errors and the limit of a wait."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from migration_route.access.isolation import View, isolated_view
from migration_route.conf import route_settings
from migration_route.core import tracing
from migration_route.core.errors import MethodNotAllowed, RouteError
from migration_route.presentation import schemas
from migration_route.presentation.text.problems import problem_answer
from migration_route.services.response_headers import with_response_headers

logger = logging.getLogger("migration_route.api")


def answer(body: schemas.Answer, *, status: int = 200, location: str = "") -> HttpResponse:
    response = HttpResponse(
        schemas.to_json(body), status=status, content_type="application/json"
    )
    if location:
        response["Location"] = location
    return response


def problem(error: RouteError) -> HttpResponse:
    response = HttpResponse(
        schemas.to_json(problem_answer(error)),
        status=error.http_status,
        content_type="application/problem+json",
    )
    if error.http_status == 401:
        response["WWW-Authenticate"] = 'Bearer realm="migration-route"'
    if seconds := error.facts.get("retry_after"):
        response["Retry-After"] = str(seconds)
    if allow := error.facts.get("allow"):
        response["Allow"] = allow
    return response


def endpoint(methods: Mapping[str, View]) -> View:
    """Return the view of one URL, from a view for each method that it accepts."""
    table = {**methods}
    if "GET" in table:
        table["HEAD"] = table["GET"]
    allow = ", ".join(sorted({*table, "OPTIONS"}))

    def dispatch(request: HttpRequest, **arguments: str) -> HttpResponseBase:
        try:
            with tracing.traceparent_scope(request.headers.get("traceparent", "")):
                response = _dispatch(request, **arguments)
        except RouteError as error:
            response = problem(error)
        except Exception:
            logger.exception("Internal error at %s", request.path)
            response = problem(RouteError("Internal error."))
        return with_response_headers(request, response)

    def _dispatch(request: HttpRequest, **arguments: str) -> HttpResponseBase:
        if request.method == "OPTIONS":
            return HttpResponse(status=204, headers={"Allow": allow})
        view = table.get(request.method or "")
        if view is None:
            raise MethodNotAllowed(f"This URL accepts {allow}.", allow=allow)
        return view(request, **arguments)

    functools.update_wrapper(dispatch, next(iter(methods.values())))
    return isolated_view(dispatch)


def longest_wait() -> float:
    """Return the maximum number of seconds that a request may wait."""
    return route_settings().max_request_wait.total_seconds()
