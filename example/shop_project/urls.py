"""URLs of the example."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("migrations/", include("migration_route.urls")),  # adds django-migration-route
    path("admin/", admin.site.urls),
    path("", RedirectView.as_view(pattern_name="migration_route:dashboard")),
]
