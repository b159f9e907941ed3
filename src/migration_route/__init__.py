"""Plan, rehearse, approve, apply and audit the migrations of a Django project."""

from __future__ import annotations

from migration_route.core.progress import progress

__all__ = ["progress"]

__version__ = "0.1.0"
