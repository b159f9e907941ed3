"""In which surroundings does a page stand?

In those of the admin that the project has mounted, else in its own; and in its own
without the request where nobody can be recognised, or where a table that the
surroundings read is behind the code.
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
from migration_route.core.enums import ActorKind
from migration_route.core.errors import Misconfigured, RouteError
from migration_route.planning import sources

logger = logging.getLogger("migration_route.web")

_ADMIN_BASE = "admin/base_site.html"
_OWN_BASE = "migration_route/base.html"


# Of what surrounds a page: a table that is behind the code, templates or static files of
# the admin that this server does not have (a manifest without an entry: ValueError).
_WITHOUT_TEMPLATES = (TemplateDoesNotExist, ImproperlyConfigured, ImportError)
_SURROUNDINGS = (DatabaseError, *_WITHOUT_TEMPLATES, ValueError)


class PagesUnavailable(Misconfigured):
    """The staff pages cannot be rendered."""

    http_status = 503
    hint = (
        "TEMPLATES needs an entry with the backend "
        "'django.template.backends.django.DjangoTemplates' and APP_DIRS. The API and "
        "'manage.py migration_route' work without."
    )


def render(
    request: HttpRequest,
    actor: Actor,
    name: str,
    context: Mapping[str, Any],
    *,
    status: int = 200,
) -> HttpResponse:
    """Answer with a page for whoever asks."""
    if actor.kind is ActorKind.PERSON:
        try:
            with savepoints():
                words = {**_surroundings(request), **context}
                return _rendered(name, words, status, request)
        except _failures(request):
            # A context processor or the admin reads what has yet to be migrated, or what
            # a middleware would have put there that the gate has left out.
            logger.warning(
                "The page %s is shown without its surroundings", name, exc_info=True
            )
    own = {"csrf_token": get_token(request)}
    return render_without_request(name, {**own, **context}, status=status)


def _failures(request: HttpRequest) -> type[Exception] | tuple[type[Exception], ...]:
    came_through_the_gate = getattr(request, "passed_the_migration_route_gate", False)
    return Exception if came_through_the_gate else _SURROUNDINGS


def render_without_request(
    name: str, context: Mapping[str, Any], *, status: int
) -> HttpResponse:
    """Answer with a page that looks at no user, no session and no table.

    Raises `PagesUnavailable` where the project's TEMPLATES do not find it.
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
    words = {
        "build": sources.build(),
        "stylesheet": _address_of("route.css"),
        "script": _address_of("route.js"),
        **context,
    }
    text = render_to_string(f"migration_route/{name}.html", words, request)
    return HttpResponse(text, status=status)


def _address_of(file: str) -> str:
    """Return the address of a static file, also where the project has not collected it:
    a page without its style is better than none."""
    path = f"migration_route/{file}"
    try:
        return static(path)
    except (ValueError, ImproperlyConfigured):
        logger.warning("The static file %s is not collected", path, exc_info=True)
        return f"{settings.STATIC_URL or '/static/'}{path}"


def render_without_templates(error: RouteError) -> HttpResponse:
    """Answer with what is wrong where no page can be rendered."""
    text = (
        "<!DOCTYPE html><html lang=en><meta charset=utf-8><title>{title}</title>"
        "<h1>{title}</h1><p>{message}</p><p>{hint}</p></html>"
    )
    title = error.code.replace("_", " ").capitalize()
    words = {"title": title, "message": error.message, "hint": error.hint}
    return HttpResponse(format_html(text, **words), status=error.http_status)


def _surroundings(request: HttpRequest) -> dict[str, Any]:
    site = _mounted_admin()
    if site is None:
        return {"surroundings": _OWN_BASE}
    request.current_app = site.name
    return {**site.each_context(request), "surroundings": _ADMIN_BASE}


def _mounted_admin() -> Any:
    """Return the admin site that stands behind the project's own addresses, if any:
    not every project mounts the default one."""
    if not apps.is_installed("django.contrib.admin"):
        return None
    try:
        index = resolve(reverse("admin:index"))
    except NoReverseMatch:
        return None
    return getattr(index.func, "admin_site", None)
