"""Which findings are there? A code never changes its meaning."""

from __future__ import annotations

from migration_route.findings import CODES, is_known

__all__ = ["CODES", "is_known"]
