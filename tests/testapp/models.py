"""The model that the migrations of this app create."""

from __future__ import annotations

from django.db import models


class Book(models.Model):
    title = models.CharField(max_length=100)
    pages = models.IntegerField(null=True)

    def __str__(self) -> str:
        return self.title
