"""Models of the shop."""

from __future__ import annotations

from django.db import models


class Item(models.Model):
    """An item with a name."""

    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name
