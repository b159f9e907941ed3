"""The request handling that all staff pages share: authentication, errors, methods."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, reverse

from migration_route.access.actors import Actor
from migration_route.access.authentication import authenticate
from migration_route.access.isolation import isolated_view
from migration_route.access.sessions import SAFE_METHODS
from migration_route.core.enums import ActorKind
from migration_route.core.errors import (
    Forbidden,
    IdentityUnavailable,
    MethodNotAllowed,
    ReauthenticationRequired,
    RouteError,
    Unauthenticated,
)
from migration_route.services.response_headers import with_response_headers
from migration_route.web import pending_form
from migration_route.web.rendering import (
    PagesUnavailable,
    render,
    render_plain_error,
    render_without_request,
)

logger = logging.getLogger("migration_route.web")

Page = Callable[..., HttpResponse]

_TITLES = {
    "reauthentication_required": "Sign in again",
    "csrf_failed": "Form rejected",
    "forbidden": "Access denied",
    "unauthenticated": "Sign-in required",
    "active_run": "Another run is active",
}

_IDENTITY_STATUS = 503
"""Not 401: sign-in is unavailable, and a session middleware saves nothing on a 5xx."""


def staff_page(methods: Mapping[str, Page]) -> Callable[..., HttpResponseBase]:
    """Return the view of one URL, which dispatches to these pages by HTTP method."""
    table = {**methods}
    if "GET" in table:
        table["HEAD"] = table["GET"]
    allow = ", ".join(sorted({*table, "OPTIONS"}))

    def dispatch(request: HttpRequest, **arguments: str) -> HttpResponse:
        view = table.get(request.method or "")
        if request.method == "OPTIONS":
            return HttpResponse(status=204, headers={"Allow": allow})
        if view is None:
            error = MethodNotAllowed(f"This URL accepts {allow}.")
            response = render_without_request("problem", _context(error), status=405)
            response["Allow"] = allow
            return response
        return _answer(view, request, **arguments)

    functools.update_wrapper(dispatch, next(iter(methods.values())))
    return isolated_page(dispatch)


def isolated_page(respond: Callable[..., HttpResponse]) -> Callable[..., HttpResponseBase]:
    """Return the isolated view of a page: with the response headers, and as plain HTML if
    TEMPLATES cannot render it."""

    @functools.wraps(respond)
    def view(request: HttpRequest, **arguments: str) -> HttpResponseBase:
        try:
            response = respond(request, **arguments)
        except PagesUnavailable as error:
            logger.exception("Cannot render the page %s", request.path)
            response = render_plain_error(error)
        return with_response_headers(request, response)

    return isolated_view(view)


def _answer(view: Page, request: HttpRequest, **arguments: str) -> HttpResponse:
    actor, is_renewed = authenticate(request), False
    # An anonymous GET is redirected to the login; the ledger records no denial for it.
    if request.method in SAFE_METHODS and (login := _login_page(request, actor)):
        return login
    try:
        if isinstance(actor.access_error, ReauthenticationRequired):
            fresh = pending_form.reauthenticate_and_continue(
                request, actor, actor.access_error
            )
            if isinstance(fresh, HttpResponse):
                return fresh
            actor, is_renewed = fresh, True
        response = _respond(view, request, actor, **arguments)
    except RouteError as error:
        response = problem_page(request, actor, error)
    return pending_form.with_session(request, response) if is_renewed else response


def _respond(
    view: Page, request: HttpRequest, actor: Actor, **arguments: str
) -> HttpResponse:
    if request.method not in SAFE_METHODS and actor.access_error is None:
        pending_form.without_password(request)
        if actor.kind is ActorKind.USER:
            pending_form.discard(request)
    return view(request, actor, **arguments)


def problem_page(request: HttpRequest, actor: Actor, error: RouteError) -> HttpResponse:
    """Return the error page, or a redirect to the login if the user is anonymous."""
    if isinstance(error, IdentityUnavailable):
        # From here on, neither `request.user` nor the session may be used.
        return render_without_request(
            "unrecognised",
            {
                "title": "Sign-in unavailable",
                "error": error,
                "api": request.build_absolute_uri(_api()),
            },
            status=_IDENTITY_STATUS,
        )
    if isinstance(error, Unauthenticated):
        login = _login_page(request, actor)
        return login or render_without_request(
            "problem", _context(error), status=error.http_status
        )
    needs = error.facts.get("needs") if isinstance(error, Forbidden) else None
    return render(
        request,
        actor,
        "problem",
        {**_context(error), "run": error.facts.get("run"), "needs": needs},
        status=error.http_status,
    )


def _context(error: RouteError) -> dict[str, Any]:
    title = _TITLES.get(error.code, error.code.replace("_", " ").capitalize())
    return {"title": title, "error": error}


def _api() -> str:
    return reverse("migration_route:api-status").removesuffix("status")


def _login_page(request: HttpRequest, actor: Actor) -> HttpResponseRedirect | None:
    """Return a redirect to the login; None unless the user is anonymous and the project
    uses `django.contrib.auth`."""
    is_person = actor.kind is ActorKind.ANONYMOUS and actor.access_error is None
    if not is_person or not apps.is_installed("django.contrib.auth"):
        return None
    try:
        login = reverse("admin:login")
    except NoReverseMatch:
        login = resolve_url(settings.LOGIN_URL)
    is_safe = request.method in SAFE_METHODS
    next_path = request.get_full_path() if is_safe else reverse("migration_route:dashboard")
    separator = "&" if "?" in login else "?"
    return HttpResponseRedirect(f"{login}{separator}{urlencode({'next': next_path})}")
