"""How does a request reach the route where the project's own middleware fails?

A middleware that reads a table in every request (a tenant, a feature flag) shuts every
door while that table is what has to be migrated, the route's own included. This one stands
first in MIDDLEWARE, and answers what is addressed to the route past all others but those
of Django that the answer needs, in the project's own classes and order.
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

from migration_route.views import perform_migration

PASSED = "passed_the_migration_route_gate"
"""An attribute of the requests that came this way."""

# Told by name: to import those of sessions and users, their apps have to be installed.
_FOR_EVERYBODY = frozenset(
    {
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csp.ContentSecurityPolicyMiddleware",
        "django.middleware.security.SecurityMiddleware",
    }
)
_FOR_PEOPLE = _FOR_EVERYBODY | {
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.locale.LocaleMiddleware",
}
# Addresses that know nobody by a session.
_WITHOUT_SESSION = frozenset({"api-ready", "api-openapi", "permit"})

Handler = Callable[[HttpRequest], HttpResponseBase]


class MigrationRouteMiddleware:
    """Answers the route's own addresses, and passes all others on."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._pass_on = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        self._machines = _chain(_FOR_EVERYBODY)
        self._people = _chain(_FOR_PEOPLE)

    def __call__(self, request: HttpRequest) -> Any:
        """Answer, or pass on."""
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
        is_machine = (
            "Authorization" in request.headers or match.url_name in _WITHOUT_SESSION
        )
        with override(_language_of(request)):
            return (self._machines if is_machine else self._people)(request)


def find_match(request: HttpRequest) -> ResolverMatch | None:
    """Return which view of the route is meant, None where none is.

    The project's URLconf says where the route is mounted, also behind a SCRIPT_NAME or a
    language. Every request of the project comes here: most are told by their beginning.
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
    """Return what calls the view through the project's middleware of these kinds."""
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
    """Return the names of a class and of all that it is made from: the project's own kind
    of a middleware counts as well."""
    return {f"{parent.__module__}.{parent.__qualname__}" for parent in kind.__mro__}
