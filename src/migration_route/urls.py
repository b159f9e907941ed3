"""What a project mounts: `path("migrations/", include("migration_route.urls"))`."""

from __future__ import annotations

from django.urls import include, path

app_name = "migration_route"

urlpatterns = [
    path("api/v1/", include("migration_route.api.urls")),
    path("", include("migration_route.web.urls")),
]
