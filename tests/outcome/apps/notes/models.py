"""An app that has no migrations."""

from __future__ import annotations

from django.db import models


class Note(models.Model):
    """Never gets a table from `migrate`, but a content type and permissions."""

    text = models.TextField()

    def __str__(self) -> str:
        return self.text
