"""Database router of a project with two databases."""

from __future__ import annotations


class ShopElsewhere:
    """Routes the shop to `other` and everything else to `default`."""

    def db_for_read(self, model, **hints):
        return "other" if model._meta.app_label == "shop" else "default"

    db_for_write = db_for_read

    def allow_migrate(self, db, app_label, **hints):
        return db == ("other" if app_label == "shop" else "default")
