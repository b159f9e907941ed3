"""System checks that report every problem of the settings at once."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as CheckWarning
from django.core.exceptions import ImproperlyConfigured
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.utils.module_loading import import_string

from migration_route.conf import read_settings
from migration_route.conf.command import HINT, problem_of
from migration_route.conf.databases import all_aliases
from migration_route.core.errors import DatabaseUnavailable, RouteError
from migration_route.execution.launchers import get_launcher
from migration_route.vendors import UNKNOWN, vendor_name, wrapper_of

GATE = "migration_route.middleware.MigrationRouteMiddleware"
_KNOWN_VENDORS = frozenset({"sqlite", "postgresql", "mysql"})


@register(Tags.compatibility)
def check_settings(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Check MIGRATION_ROUTE and related settings without contacting a database."""
    del app_configs, kwargs
    from django.conf import settings

    found = read_settings(getattr(settings, "MIGRATION_ROUTE", {}))
    messages: list[CheckMessage] = [
        Error(
            problem,
            hint="See docs/reference/settings.md for the valid settings.",
            obj="MIGRATION_ROUTE",
            id="migration_route.E001",
        )
        for problem in found.problems
    ]
    if found.oidc and not all(map(find_spec, ("jwt", "cryptography"))):
        messages.append(
            Error(
                "OIDC is set, but PyJWT with cryptography, which verifies identity tokens, "
                "is not installed.",
                hint="Run pip install 'django-migration-route[oidc]'.",
                obj="MIGRATION_ROUTE",
                id="migration_route.E003",
            )
        )
    messages += _check_command(found.command)
    if not found.problems:
        messages += _check_launcher()
    messages += _check_templates()
    messages += _check_middleware(list(settings.MIDDLEWARE))
    messages += _check_reauthentication(found.reauthentication)
    vendors = {alias: vendor_name(alias) for alias in all_aliases()}
    messages += [
        CheckWarning(
            f"The database {alias!r} uses {vendor}, which migration_route cannot lock.",
            hint="Use migration_route with SQLite, PostgreSQL, MySQL and MariaDB only.",
            obj="DATABASES",
            id="migration_route.W001",
        )
        for alias, vendor in vendors.items()
        if vendor not in {*_KNOWN_VENDORS, UNKNOWN}
    ]
    messages += [
        _unloadable_backend(alias) for alias in vendors if vendors[alias] == UNKNOWN
    ]
    return messages


def _check_command(words: tuple[str, ...]) -> list[CheckMessage]:
    problem = problem_of(words) if words else ""
    if not problem:
        return []
    return [
        Error(problem, hint=HINT, obj="MIGRATION_ROUTE", id="migration_route.E010"),
    ]


def _check_templates() -> list[CheckMessage]:
    """Return a warning, not an error: the API and the command need no templates."""
    try:
        get_template("migration_route/layout.html")
    except (TemplateDoesNotExist, ImproperlyConfigured, ImportError) as error:
        return [
            CheckWarning(
                f"The templates of the staff pages cannot be loaded: {error}.",
                hint="Add an entry to TEMPLATES with the backend DjangoTemplates and "
                "APP_DIRS: True.",
                obj="TEMPLATES",
                id="migration_route.W011",
            )
        ]
    return []


def _check_launcher() -> list[CheckMessage]:
    try:
        found = get_launcher()
        advice = getattr(found, "advice", str)()
    except RouteError as error:
        return [
            Error(
                error.message,
                hint=error.hint,
                obj="MIGRATION_ROUTE",
                id="migration_route.E011",
            )
        ]
    if not advice:
        return []
    return [
        CheckWarning(
            advice,
            hint='Use a task backend with a worker, or set LAUNCHER to "process".',
            obj="MIGRATION_ROUTE",
            id="migration_route.W010",
        )
    ]


def _unloadable_backend(alias: str) -> CheckMessage:
    """Return a warning, not an error: the other databases can be migrated."""
    problem = ""
    try:
        wrapper_of(alias)
    except DatabaseUnavailable as error:
        problem = error.message
    return CheckWarning(
        f"The backend of the database {alias!r} cannot be loaded. {problem}",
        hint="Install its driver or correct its ENGINE in DATABASES.",
        obj="DATABASES",
        id="migration_route.W001",
    )


def _check_middleware(middleware: list[str]) -> list[CheckMessage]:
    if GATE not in middleware or middleware[0] == GATE:
        return []
    return [
        CheckWarning(
            f"{middleware[0]} runs before {GATE}: if it fails, migration_route cannot be "
            "reached.",
            hint=f"Put {GATE!r} first in MIDDLEWARE.",
            obj="MIDDLEWARE",
            id="migration_route.W002",
        )
    ]


def _check_reauthentication(named: object) -> list[CheckMessage]:
    """Return a warning, not an error: only signed-in users are affected, tokens still
    work."""
    if not isinstance(named, str):
        return []
    try:
        if callable(import_string(named)):
            return []
        problem = "is not callable"
    except ImportError as error:
        problem = f"cannot be imported: {error}"
    return [
        CheckWarning(
            f"REAUTHENTICATION is set to {named!r}, which {problem}.",
            hint="Correct the dotted path. Until then, signed-in users can change nothing.",
            obj="MIGRATION_ROUTE",
            id="migration_route.W003",
        )
    ]
