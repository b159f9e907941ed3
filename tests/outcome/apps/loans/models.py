"""Loans of books."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Loan(models.Model):
    """A borrowed book."""

    book = models.ForeignKey("library.Book", models.CASCADE)
    person = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    until = models.DateField()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=["book"], name="loans_loan_one_at_a_time"),
        )

    def __str__(self) -> str:
        return f"{self.book} until {self.until}"
