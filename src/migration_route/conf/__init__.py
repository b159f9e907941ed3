"""The setting MIGRATION_ROUTE as one frozen value, cached until the setting changes.

System checks report all its problems at once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from migration_route.conf.loader import (
    BUILD_VARIABLES,
    LAUNCHERS,
    DatabaseSettings,
    RouteSettings,
    read_settings,
)
from migration_route.conf.oidc import Issuer
from migration_route.core.credentials import Addresses, Networks, Token

__all__ = [
    "BUILD_VARIABLES",
    "LAUNCHERS",
    "Addresses",
    "DatabaseSettings",
    "Issuer",
    "Networks",
    "RouteSettings",
    "Token",
    "read_settings",
    "route_settings",
]


@lru_cache(maxsize=1)
def route_settings() -> RouteSettings:
    return read_settings(getattr(settings, "MIGRATION_ROUTE", {}))


def _forget(*, setting: str, **_: Any) -> None:
    if setting in {"MIGRATION_ROUTE", "DATABASES"}:
        route_settings.cache_clear()


setting_changed.connect(_forget, dispatch_uid="migration_route.conf")
