"""URLconf of the package: `path("migrations/", include("migration_route.urls"))`."""

from __future__ import annotations

from django.urls import include, path

from migration_route.api.metrics import get_metrics
from migration_route.api.views import endpoint

app_name = "migration_route"

urlpatterns = [
    path("api/v1/", include("migration_route.api.urls")),
    path("metrics", endpoint({"GET": get_metrics}), name="metrics"),
    path("", include("migration_route.web.urls")),
]
