"""Rendering of the pages.

A page extends the base template of the project's admin if one is mounted, otherwise its
own. It uses its own, without the request, if authentication is unavailable, or if the
admin's template reads a table that is behind the code.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.template import TemplateDoesNotExist
from django.template.loader import render_to_string
from django.templatetags.static import static
from django.urls import NoReverseMatch, resolve, reverse
from django.utils.html import format_html

from migration_route.access.actors import Actor
from migration_route.access.isolation import savepoints
from migration_route.conf import route_settings
from migration_route.core.enums import ActorKind
from migration_route.core.errors import Misconfigured, RouteError
from migration_route.planning import sources

logger = logging.getLogger("migration_route.web")

_ADMIN_BASE = "admin/base_site.html"
_OWN_BASE = "migration_route/base.html"


# Failures of the admin's base template: a table that is behind the code, or templates or
# static files that this server does not have (ValueError: a manifest without the entry).
_WITHOUT_TEMPLATES = (TemplateDoesNotExist, ImproperlyConfigured, ImportError)
_BASE_FAILURES = (DatabaseError, *_WITHOUT_TEMPLATES, ValueError)


class PagesUnavailable(Misconfigured):
    """The staff pages cannot be rendered."""

    http_status = 503
    hint = (
        "Add an entry with the backend "
        "'django.template.backends.django.DjangoTemplates' and APP_DIRS to TEMPLATES. The "
        "API and 'manage.py migration_route' work without it."
    )


def render(
    request: HttpRequest,
    actor: Actor,
    name: str,
    context: Mapping[str, Any],
    *,
    status: int = 200,
) -> HttpResponse:
    if actor.kind is ActorKind.USER:
        try:
            with savepoints():
                full = {**_surroundings(request), **context}
                return _rendered(name, full, status, request)
        except _failures(request):
            # A context processor or the admin reads a table that is not migrated yet, or an
            # attribute of a middleware that the gate has skipped.
            logger.warning(
                "Rendering the page %s without the admin's template", name, exc_info=True
            )
    own = {"csrf_token": get_token(request)}
    return render_without_request(name, {**own, **context}, status=status)


def _failures(request: HttpRequest) -> type[Exception] | tuple[type[Exception], ...]:
    passed_the_gate = getattr(request, "passed_the_migration_route_gate", False)
    return Exception if passed_the_gate else _BASE_FAILURES


def render_without_request(
    name: str, context: Mapping[str, Any], *, status: int
) -> HttpResponse:
    """Render a page that reads no user, no session and no table.

    Raises `PagesUnavailable` if the project's TEMPLATES do not find it.
    """
    try:
        return _rendered(name, {"surroundings": _OWN_BASE, **context}, status, None)
    except _WITHOUT_TEMPLATES as error:
        raise PagesUnavailable(
            "The setting TEMPLATES does not find the templates of the staff pages: "
            f"{error}."
        ) from error


def _rendered(
    name: str, context: Mapping[str, Any], status: int, request: HttpRequest | None
) -> HttpResponse:
    full = {
        "build": sources.build(),
        "environment": route_settings().environment,
        "stylesheet": _static_url("route.css"),
        "script": _static_url("route.js"),
        **context,
        "icon": _static_url(f"icon-{context.get('icon', 'quiet')}.svg"),
    }
    text = render_to_string(f"migration_route/{name}.html", full, request)
    return HttpResponse(text, status=status)


def _static_url(file: str) -> str:
    """Return the URL of a static file, even if the project has not collected it: a page
    without its style is better than none."""
    path = f"migration_route/{file}"
    try:
        return static(path)
    except (ValueError, ImproperlyConfigured):
        logger.warning("Static file not collected: %s", path, exc_info=True)
        return f"{settings.STATIC_URL or '/static/'}{path}"


def render_plain_error(error: RouteError) -> HttpResponse:
    """Return the error as plain HTML, for projects whose TEMPLATES cannot render a page."""
    text = (
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>{title}</title>"
        "<h1>{title}</h1><p>{message}</p><p>{hint}</p></html>"
    )
    title = error.code.replace("_", " ").capitalize()
    page = format_html(text, title=title, message=error.message, hint=error.hint)
    return HttpResponse(page, status=error.http_status)


def _surroundings(request: HttpRequest) -> dict[str, Any]:
    site = _mounted_admin()
    if site is None:
        return {"surroundings": _OWN_BASE}
    request.current_app = site.name
    return {**site.each_context(request), "surroundings": _ADMIN_BASE}


def _mounted_admin() -> Any:
    """Return the admin site in the project's URLconf, if any. It need not be the default
    site."""
    if not apps.is_installed("django.contrib.admin"):
        return None
    try:
        index = resolve(reverse("admin:index"))
    except NoReverseMatch:
        return None
    return getattr(index.func, "admin_site", None)
