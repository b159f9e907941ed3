"""Middleware that serves the URLs of this package even while other middleware fails, and
middleware for development that shows pending migrations.

A middleware that reads a table on every request (a tenant, a feature flag) makes every URL
fail while that table is what has to be migrated, including the URLs of this package. This
middleware comes first in MIDDLEWARE. It answers requests for this package and skips all
other middleware except what the response needs of Django's own, in the classes and the
order of the project.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.conf import settings
from django.core.exceptions import MiddlewareNotUsed
from django.core.handlers.exception import convert_exception_to_response
from django.http import HttpRequest, HttpResponseBase
from django.urls import NoReverseMatch, Resolver404, ResolverMatch, resolve, reverse
from django.utils.module_loading import import_string
from django.utils.translation import get_language_from_path, override

from migration_route.services.runs import ready
from migration_route.views import perform_migration
from migration_route.web import development

PASSED = "passed_the_migration_route_gate"
"""Attribute of the requests that this middleware answered."""

# By name: importing those of sessions and users requires their apps to be installed.
_FOR_EVERY_REQUEST = frozenset(
    {
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csp.ContentSecurityPolicyMiddleware",
        "django.middleware.security.SecurityMiddleware",
    }
)
_FOR_SESSIONS = _FOR_EVERY_REQUEST | {
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.locale.LocaleMiddleware",
}
# Views that do not use a session.
_WITHOUT_SESSION = frozenset({"api-ready", "api-openapi", "permit"})

Handler = Callable[[HttpRequest], HttpResponseBase]


class MigrationRouteMiddleware:
    """Answers requests for this package and passes all others on."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._pass_on = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        self._without_session = _chain(_FOR_EVERY_REQUEST)
        self._with_session = _chain(_FOR_SESSIONS)

    def __call__(self, request: HttpRequest) -> Any:
        if self._is_async:
            return self._call_async(request)
        match = find_match(request)
        return self._pass_on(request) if match is None else self._answer(request, match)

    async def _call_async(self, request: HttpRequest) -> HttpResponseBase:
        match = find_match(request)
        if match is None:
            return cast("HttpResponseBase", await self._pass_on(request))
        return await sync_to_async(self._answer, thread_sensitive=True)(request, match)

    def _answer(self, request: HttpRequest, match: ResolverMatch) -> HttpResponseBase:
        request.resolver_match = match
        setattr(request, PASSED, True)
        skips_session = (
            "Authorization" in request.headers or match.url_name in _WITHOUT_SESSION
        )
        with override(_language_of(request)):
            return (self._without_session if skips_session else self._with_session)(request)


class PendingMigrationsMiddleware:
    """Answers every request of a project in development with the pending migrations and a
    button that applies them, as long as there are any.

    Without DEBUG, it is not loaded.
    """

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        if not settings.DEBUG:
            raise MiddlewareNotUsed("It shows pending migrations only with DEBUG.")
        self._pass_on = get_response

    def __call__(self, request: HttpRequest) -> Any:
        if _is_static(request) or find_match(request) is not None:
            return self._pass_on(request)
        if _is_form(request) and development.FIELD in request.POST:
            return development.apply_from_page(request)
        return self._pass_on(request) if ready() else development.pending_page(request)


def _is_form(request: HttpRequest) -> bool:
    """Return whether the fields can be read without taking the body from the view: an
    upload is left alone."""
    kind = "application/x-www-form-urlencoded"
    return request.method == "POST" and request.content_type == kind


def _is_static(request: HttpRequest) -> bool:
    places = filter(None, (settings.STATIC_URL, settings.MEDIA_URL))
    return any(request.path.startswith(place) for place in places if place != "/")


def find_match(request: HttpRequest) -> ResolverMatch | None:
    """Return the view of this package that the request is for, or None.

    The project's URLconf defines where the package is mounted, also below a SCRIPT_NAME or
    a language prefix. Every request of the project passes here; the prefix of the path
    rules out most of them.
    """
    with override(_language_of(request)):
        if not any(map(request.path.startswith, _mounts())):
            return None
        try:
            match = resolve(request.path_info)
        except Resolver404:
            return None
    is_ours = "migration_route" in match.app_names or match.func is perform_migration
    return match if is_ours else None


def _mounts() -> Iterable[str]:
    for view in ("migration_route:dashboard", perform_migration):
        try:
            yield reverse(cast("str", view))
        except NoReverseMatch:
            continue


def _language_of(request: HttpRequest) -> str:
    language = get_language_from_path(request.path_info) if settings.USE_I18N else None
    return language or settings.LANGUAGE_CODE


def _chain(kinds: frozenset[str]) -> Handler:
    """Return a handler that calls the view through the project's middleware of these
    kinds."""
    hooks: list[Callable[..., HttpResponseBase | None]] = []

    def call_view(request: HttpRequest) -> HttpResponseBase:
        match = cast("ResolverMatch", request.resolver_match)
        for hook in hooks:
            if early := hook(request, match.func, match.args, match.kwargs):
                return early
        return cast("HttpResponseBase", match.func(request, *match.args, **match.kwargs))

    handler = convert_exception_to_response(call_view)
    for path in reversed(settings.MIDDLEWARE):
        kind = import_string(path)
        if not isinstance(kind, type) or kinds.isdisjoint(_names_of(kind)):
            continue
        try:
            made = kind(handler)
        except MiddlewareNotUsed:
            continue
        if hook := getattr(made, "process_view", None):
            hooks.insert(0, hook)
        handler = convert_exception_to_response(made)
    return cast("Handler", handler)


def _names_of(kind: type) -> set[str]:
    """Return the names of a class and of all its bases, so that a project's subclass of a
    middleware counts as well."""
    return {f"{parent.__module__}.{parent.__qualname__}" for parent in kind.__mro__}
