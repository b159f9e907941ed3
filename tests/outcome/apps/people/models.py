"""The user model that AUTH_USER_MODEL names."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models


class Person(AbstractUser):
    card = models.CharField(max_length=20, blank=True)
