"""Which database holds what?"""

from __future__ import annotations


class ArchiveRouter:
    """The archive lives in `other`, everything else does not."""

    def allow_migrate(self, db, app_label, **hints):
        """Say where an app's tables belong."""
        return (db == "other") is (app_label == "archive")
