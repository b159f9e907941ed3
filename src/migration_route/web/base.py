"""What do all staff pages have in common? A request comes in, a page goes out."""

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
from migration_route.services.response_headers import stamped
from migration_route.web import pending_form
from migration_route.web.rendering import (
    PagesUnavailable,
    render,
    render_without_request,
    render_without_templates,
)

logger = logging.getLogger("migration_route.web")

Page = Callable[..., HttpResponse]

_TITLES = {
    "reauthentication_required": "Sign in again",
    "csrf": "The form was not accepted",
    "forbidden": "You may not do this",
    "unauthenticated": "Who are you?",
    "active_run": "Another run is under way",
}

_IDENTITY_STATUS = 503
"""Not 401: nobody can sign in now, and a session middleware saves nothing on a 5xx."""


def staff_page(methods: Mapping[str, Page]) -> Callable[..., HttpResponseBase]:
    """Return one address of the staff pages: a view for each method it answers to."""
    table = {**methods}
    if "GET" in table:
        table["HEAD"] = table["GET"]
    allow = ", ".join(sorted({*table, "OPTIONS"}))

    def dispatch(request: HttpRequest, **arguments: str) -> HttpResponseBase:
        view = table.get(request.method or "")
        try:
            response = _dispatch(view, request, **arguments)
        except PagesUnavailable as error:
            logger.exception("The page %s cannot be rendered", request.path)
            response = render_without_templates(error)
        return stamped(request, response)

    def _dispatch(
        view: Page | None, request: HttpRequest, **arguments: str
    ) -> HttpResponse:
        if request.method == "OPTIONS":
            return HttpResponse(status=204, headers={"Allow": allow})
        if view is None:
            flaw = MethodNotAllowed(f"This address answers to {allow}.")
            response = render_without_request("problem", _words(flaw), status=405)
            response["Allow"] = allow
            return response
        return _answer(view, request, **arguments)

    functools.update_wrapper(dispatch, next(iter(methods.values())))
    return isolated_view(dispatch)


def _answer(view: Page, request: HttpRequest, **arguments: str) -> HttpResponse:
    actor, is_renewed = authenticate(request), False
    # Who only passes by is shown the way in; no denial is put on the ledger for that.
    if request.method in SAFE_METHODS and (login := _login_page(request, actor)):
        return login
    try:
        if isinstance(actor.flaw, ReauthenticationRequired):
            fresh = pending_form.reauthenticate_and_continue(request, actor, actor.flaw)
            if isinstance(fresh, HttpResponse):
                return fresh
            actor, is_renewed = fresh, True
        response = _carried_out(view, request, actor, **arguments)
    except RouteError as error:
        response = problem_page(request, actor, error)
    return pending_form.with_session(request, response) if is_renewed else response


def _carried_out(
    view: Page, request: HttpRequest, actor: Actor, **arguments: str
) -> HttpResponse:
    if request.method not in SAFE_METHODS and actor.flaw is None:
        pending_form.without_password(request)
        if actor.kind is ActorKind.PERSON:
            pending_form.discard(request)
    return view(request, actor, **arguments)


def problem_page(request: HttpRequest, actor: Actor, error: RouteError) -> HttpResponse:
    """Return the page that says what went wrong and what to do."""
    if isinstance(error, IdentityUnavailable):
        # Neither `request.user` nor the session may be touched from here on.
        return render_without_request(
            "unrecognised",
            {
                "title": "Nobody can be recognised now",
                "error": error,
                "api": request.build_absolute_uri(_api()),
            },
            status=_IDENTITY_STATUS,
        )
    if isinstance(error, Unauthenticated):
        login = _login_page(request, actor)
        return login or render_without_request(
            "problem", _words(error), status=error.http_status
        )
    needs = error.facts.get("needs") if isinstance(error, Forbidden) else None
    return render(
        request,
        actor,
        "problem",
        {**_words(error), "run": error.facts.get("run"), "needs": needs},
        status=error.http_status,
    )


def _words(error: RouteError) -> dict[str, Any]:
    title = _TITLES.get(error.code, error.code.replace("_", " ").capitalize())
    return {"title": title, "error": error}


def _api() -> str:
    return reverse("migration_route:api-status").removesuffix("status")


def _login_page(request: HttpRequest, actor: Actor) -> HttpResponseRedirect | None:
    """Return the way to the login, for people in a project that has one."""
    is_person = actor.kind is ActorKind.ANONYMOUS and actor.flaw is None
    if not is_person or not apps.is_installed("django.contrib.auth"):
        return None
    try:
        login = reverse("admin:login")
    except NoReverseMatch:
        login = resolve_url(settings.LOGIN_URL)
    is_safe = request.method in SAFE_METHODS
    back = request.get_full_path() if is_safe else reverse("migration_route:dashboard")
    separator = "&" if "?" in login else "?"
    return HttpResponseRedirect(f"{login}{separator}{urlencode({'next': back})}")
