"""Read-only admin pages for runs, ledger entries and approvals."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from typing import Any

from django.apps import apps
from django.contrib import admin, messages
from django.db import DatabaseError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import NoReverseMatch, reverse

from migration_route.access.actors import databases_of
from migration_route.conf import route_settings
from migration_route.ledger.bootstrap import is_installed


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Shows rows of the ledger's database and allows no changes."""

    actions = None

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows of the databases that the user may access, read from the ledger's
        database."""
        rows = super().get_queryset(request).using(route_settings().ledger_database)
        allowed = databases_of(request.user)
        return rows if allowed is None else self.limit_to(rows, allowed)

    def limit_to(self, rows: QuerySet[Any], databases: Collection[str]) -> QuerySet[Any]:
        """Return the rows that concern these databases."""
        return rows.filter(database__in=databases)

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Any:
        """Return the row with this key, or None while the ledger is not installed."""
        if not _has_ledger():
            return None
        return super().get_object(request, object_id, from_field)

    def has_add_permission(self, request: HttpRequest) -> bool:
        del request
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        del request, obj
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        del request, obj
        return False

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the list, or redirect to the index while the ledger is not installed."""
        if not _has_ledger():
            messages.info(
                request, "The ledger is not installed yet. The first run installs it."
            )
            return redirect(reverse("admin:index", current_app=self.admin_site.name))
        return super().changelist_view(request, extra_context)


def _has_ledger() -> bool:
    try:
        return is_installed(route_settings().ledger_database)
    except DatabaseError:
        return False


@admin.register(apps.get_model("migration_route", "Run"))
class RunAdmin(ReadOnlyAdmin):
    list_display = ("id", "database", "state", "actor_name", "reason", "created_at")
    list_display_links = ("id",)
    list_filter = ("state", "database")
    search_fields = ("id", "actor_name", "reason", "fingerprint")

    def view_on_site(self, obj: Any) -> str | None:
        """Return the URL of the run's page, or None if the project does not mount the
        pages."""
        with suppress(NoReverseMatch):
            return reverse("migration_route:run", kwargs={"run": obj.pk})
        return None


@admin.register(apps.get_model("migration_route", "Entry"))
class EntryAdmin(ReadOnlyAdmin):
    list_display = ("sequence", "at", "action", "actor_name", "database", "run")
    list_display_links = ("sequence",)
    list_filter = ("action", "database")
    search_fields = ("actor_name", "run", "facts")


@admin.register(apps.get_model("migration_route", "Approval"))
class ApprovalAdmin(ReadOnlyAdmin):
    list_display = ("run", "decision", "actor_name", "reason", "at")
    list_display_links = ("run",)
    list_filter = ("decision",)
    search_fields = ("run", "actor_name", "reason", "fingerprint")

    def limit_to(self, rows: QuerySet[Any], databases: Collection[str]) -> QuerySet[Any]:
        """Return the approvals of runs on these databases: an approval refers to its
        run."""
        runs = apps.get_model("migration_route", "Run")._default_manager.using(rows.db)
        return rows.filter(run__in=runs.filter(database__in=databases).values("id"))
