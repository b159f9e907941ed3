"""A guarded route through which a Django project's migrations are applied."""

from __future__ import annotations

__version__ = "0.1.0"
