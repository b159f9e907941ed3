"""An app without migrations."""

from __future__ import annotations

from django.db import models


class Note(models.Model):
    """Gets a content type and permissions from `migrate`, but no table."""

    text = models.TextField()

    def __str__(self) -> str:
        return self.text
