"""Tests that this package's views run outside of the request's transaction, on every
database."""

from __future__ import annotations

from django.core.handlers.base import BaseHandler
from django.db import connections
from django.http import HttpResponse

from migration_route.access.isolation import isolated_view


def test_no_request_transaction_is_opened_on_any_alias(settings, monkeypatch):
    """Including a direct alias, which is not one of this package's databases."""
    for alias in ("default", "other"):
        changed = {**connections.settings[alias], "ATOMIC_REQUESTS": True}
        monkeypatch.setitem(connections.settings, alias, changed)
    settings.MIGRATION_ROUTE = {"DATABASES": {"default": {"direct_alias": "other"}}}
    view = isolated_view(lambda request: HttpResponse())
    assert BaseHandler().make_view_atomic(view) is view
