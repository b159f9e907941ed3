"""Models that are stored in the second database."""

from __future__ import annotations

from django.db import models


class Box(models.Model):
    label = models.CharField(max_length=50)

    def __str__(self) -> str:
        return self.label
