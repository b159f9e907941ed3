"""What do all addresses of the route have in common?"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from migration_route import tracecontext, wire
from migration_route.access.surroundings import View, outside_of_the_request
from migration_route.errors import MethodNotAllowed, RouteError
from migration_route.rendering.problems import problem_answer
from migration_route.reporting.stamping import stamped

logger = logging.getLogger("migration_route.api")


def answer(body: wire.Answer, *, status: int = 200, location: str = "") -> HttpResponse:
    """Answer with JSON."""
    response = HttpResponse(
        wire.to_json(body), status=status, content_type="application/json"
    )
    if location:
        response["Location"] = location
    return response


def problem(error: RouteError) -> HttpResponse:
    """Answer with what went wrong."""
    response = HttpResponse(
        wire.to_json(problem_answer(error)),
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
    """Return one address of the JSON API: a view for each method that it answers to."""
    table = {**methods}
    if "GET" in table:
        table["HEAD"] = table["GET"]
    allow = ", ".join(sorted({*table, "OPTIONS"}))

    def dispatch(request: HttpRequest, **arguments: str) -> HttpResponseBase:
        try:
            with tracecontext.part_of(request.headers.get("traceparent", "")):
                response = _dispatch(request, **arguments)
        except RouteError as error:
            response = problem(error)
        except Exception:
            logger.exception("The migration route could not answer %s", request.path)
            response = problem(RouteError("Something went wrong that nobody foresaw."))
        return stamped(request, response)

    def _dispatch(request: HttpRequest, **arguments: str) -> HttpResponseBase:
        if request.method == "OPTIONS":
            return HttpResponse(status=204, headers={"Allow": allow})
        view = table.get(request.method or "")
        if view is None:
            raise MethodNotAllowed(f"This address answers to {allow}.", allow=allow)
        return view(request, **arguments)

    functools.update_wrapper(dispatch, next(iter(methods.values())))
    return outside_of_the_request(dispatch)
