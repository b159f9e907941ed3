"""App configuration of `migration_route`."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MigrationRouteConfig(AppConfig):
    name = "migration_route"
    verbose_name = _("Migration route")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register system checks, the `migrate` guard, the login receiver and
        notifications; in a server process, also record which migrations it started with."""
        from migration_route import checks  # noqa: F401
        from migration_route.access.reauthentication import stamp_logins
        from migration_route.core.uncached import disable_recorder_cache
        from migration_route.execution import migrate_guard
        from migration_route.planning import sources
        from migration_route.services import notifications

        disable_recorder_cache()
        migrate_guard.install_guard()
        stamp_logins()
        notifications.connect_signals()
        if sources.is_server():
            sources.remember_digests()
            sources.build()
            sources.place()
