"""Users of the project."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """A custom user model; one end-to-end test adds a column that its table lacks."""
