"""Database router of the project with two databases."""

from __future__ import annotations


class ArchiveRouter:
    """Routes the archive to `other` and everything else to `default`."""

    def allow_migrate(self, db, app_label, **hints):
        return (db == "other") is (app_label == "archive")
