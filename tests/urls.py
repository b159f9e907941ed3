"""URLs of the tests' project."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from migration_route.views import perform_migration

urlpatterns = [
    path("migrations/", include("migration_route.urls")),
    path("perform/", perform_migration),
    path("admin/", admin.site.urls),
]
