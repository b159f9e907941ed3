"""An app with a handful of migrations, for the tests."""

from __future__ import annotations

from django.apps import AppConfig


class TestAppConfig(AppConfig):
    """The app `testapp`."""

    name = "tests.testapp"
    default_auto_field = "django.db.models.BigAutoField"
