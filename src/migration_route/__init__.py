"""Plan, rehearse, approve, apply and audit the migrations of a Django project."""

from __future__ import annotations

__version__ = "0.1.0"
