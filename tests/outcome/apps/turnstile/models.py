"""A table whose indexes are built concurrently; PostgreSQL only."""

from __future__ import annotations

from django.db import models


class Visit(models.Model):
    page = models.CharField(max_length=100)
    at = models.DateTimeField()

    class Meta:
        indexes = (models.Index(fields=["at"], name="turnstile_visit_at"),)
        constraints = (
            models.CheckConstraint(
                condition=~models.Q(page=""), name="turnstile_visit_has_page"
            ),
        )

    def __str__(self) -> str:
        return self.page
