"""How does Django come to know the route?"""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MigrationRouteConfig(AppConfig):
    """The app `migration_route`."""

    name = "migration_route"
    verbose_name = _("Migration route")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, the guard, the stamp of logins and who is told, and
        note which migrations a server starts with."""
        from migration_route import checks  # noqa: F401
        from migration_route.access.reauthentication import watch_logins
        from migration_route.core.uncached import read_recorder_uncached
        from migration_route.execution import migrate_guard
        from migration_route.planning import sources
        from migration_route.services import notifications

        read_recorder_uncached()
        migrate_guard.watch()
        watch_logins()
        notifications.connect()
        if sources.is_server():
            sources.remember()
            sources.build()
            sources.place()
