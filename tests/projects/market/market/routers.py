"""Where do the tables of a project with two databases live?"""

from __future__ import annotations


class ShopElsewhere:
    """The shop's tables are in `other`, everything else is in `default`."""

    def db_for_read(self, model, **hints):
        """Name the database of a model."""
        return "other" if model._meta.app_label == "shop" else "default"

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        """Say whether an app's tables belong into a database."""
        return db == ("other" if app_label == "shop" else "default")
