"""URLs of a project with a language prefix."""

from __future__ import annotations

from django.conf.urls.i18n import i18n_patterns
from django.http import HttpResponse
from django.urls import include, path

urlpatterns = i18n_patterns(
    path("migrations/", include("migration_route.urls")),
    path("other/", lambda request: HttpResponse()),
)
