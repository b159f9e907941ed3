"""The template filters of the staff pages: `{% load migration_route %}`."""

from __future__ import annotations

from migration_route.web.filters import register

__all__ = ["register"]
