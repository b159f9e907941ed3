"""Who works here."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """A user of our own; one walk gives it a column more than its table has."""
