"""What is wrong with the settings of the route? Told all at once, before it matters."""

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
from migration_route.execution.launchers import launcher
from migration_route.vendors import UNKNOWN, vendor_name, wrapper_of

GATE = "migration_route.middleware.MigrationRouteMiddleware"
_KNOWN_VENDORS = frozenset({"sqlite", "postgresql", "mysql"})


@register(Tags.compatibility)
def check_settings(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> list[CheckMessage]:
    """Check MIGRATION_ROUTE; touches no database."""
    del app_configs, kwargs
    from django.conf import settings

    found = read_settings(getattr(settings, "MIGRATION_ROUTE", {}))
    messages: list[CheckMessage] = [
        Error(
            problem,
            hint="docs/reference/settings.md lists the settings.",
            obj="MIGRATION_ROUTE",
            id="migration_route.E001",
        )
        for problem in found.problems
    ]
    if found.oidc and not all(map(find_spec, ("jwt", "cryptography"))):
        messages.append(
            Error(
                "OIDC is set, but PyJWT, which checks identity tokens, is not installed.",
                hint="pip install 'django-migration-route[oidc]'",
                obj="MIGRATION_ROUTE",
                id="migration_route.E003",
            )
        )
    messages += _of_the_command(found.command)
    if not found.problems:
        messages += _of_the_launcher()
    messages += _of_the_templates()
    messages += _of_the_gate(list(settings.MIDDLEWARE))
    messages += _of_the_callable(found.reauthenticate)
    vendors = {alias: vendor_name(alias) for alias in all_aliases()}
    messages += [
        CheckWarning(
            f"The database {alias!r} is of a kind that the route cannot lock ({vendor}).",
            hint="It knows SQLite, PostgreSQL, MySQL and MariaDB.",
            obj="DATABASES",
            id="migration_route.W001",
        )
        for alias, vendor in vendors.items()
        if vendor not in {*_KNOWN_VENDORS, UNKNOWN}
    ]
    messages += [_of_the_backend(alias) for alias in vendors if vendors[alias] == UNKNOWN]
    return messages


def _of_the_command(words: tuple[str, ...]) -> list[CheckMessage]:
    problem = problem_of(words) if words else ""
    if not problem:
        return []
    return [
        Error(problem, hint=HINT, obj="MIGRATION_ROUTE", id="migration_route.E010"),
    ]


def _of_the_templates() -> list[CheckMessage]:
    """A warning, not an error: the API and the command need no templates."""
    try:
        get_template("migration_route/layout.html")
    except (TemplateDoesNotExist, ImproperlyConfigured, ImportError) as error:
        return [
            CheckWarning(
                "The setting TEMPLATES does not find the templates of the staff pages: "
                f"{error}.",
                hint="Add an entry with the backend DjangoTemplates and APP_DIRS: True.",
                obj="TEMPLATES",
                id="migration_route.W011",
            )
        ]
    return []


def _of_the_launcher() -> list[CheckMessage]:
    try:
        found = launcher()
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
            hint='Use a backend with a worker, or the launcher "process".',
            obj="MIGRATION_ROUTE",
            id="migration_route.W010",
        )
    ]


def _of_the_backend(alias: str) -> CheckMessage:
    """A warning, not an error: the other databases can be migrated."""
    problem = ""
    try:
        wrapper_of(alias)
    except DatabaseUnavailable as error:
        problem = error.message
    return CheckWarning(
        f"The backend of the database {alias!r} cannot be loaded. {problem}",
        hint="Install its driver, or correct its ENGINE in DATABASES.",
        obj="DATABASES",
        id="migration_route.W001",
    )


def _of_the_gate(middleware: list[str]) -> list[CheckMessage]:
    if GATE not in middleware or middleware[0] == GATE:
        return []
    return [
        CheckWarning(
            f"{middleware[0]} stands before the gate: where it fails, nobody reaches the "
            "route.",
            hint=f"Let {GATE!r} be the first in MIDDLEWARE.",
            obj="MIDDLEWARE",
            id="migration_route.W002",
        )
    ]


def _of_the_callable(named: object) -> list[CheckMessage]:
    """A warning, not an error: people are shut out, and machines go on."""
    if not isinstance(named, str):
        return []
    try:
        if callable(import_string(named)):
            return []
        problem = "cannot be called"
    except ImportError as error:
        problem = f"cannot be imported: {error}"
    return [
        CheckWarning(
            f"REAUTHENTICATE names {named!r}, which {problem}.",
            hint="Until it is put right, nobody who is signed in can change anything.",
            obj="MIGRATION_ROUTE",
            id="migration_route.W003",
        )
    ]
