"""Books and their writers."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Writer(models.Model):
    """A writer; called Author until 0005."""

    name = models.CharField(max_length=100)

    class Meta:
        permissions = (("praise_writer", "Can praise a writer"),)

    def __str__(self) -> str:
        return self.name


class Book(models.Model):
    """A book that can be borrowed."""

    title = models.CharField(max_length=200)
    writers = models.ManyToManyField(Writer)
    isbn = models.CharField(max_length=13, db_comment="Without hyphens")
    pages = models.IntegerField(db_default=1)
    leaves = models.GeneratedField(
        expression=models.F("pages") / 2,
        output_field=models.IntegerField(),
        db_persist=True,
    )
    keeper = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="kept"
    )

    class Meta:
        unique_together = (("title", "isbn"),)
        indexes = (models.Index(fields=["isbn"], name="library_book_isbn"),)
        constraints = (
            models.CheckConstraint(
                condition=models.Q(pages__gt=0), name="library_book_has_pages"
            ),
        )

    def __str__(self) -> str:
        return self.title
