"""Signed-in users, and the age of their logins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from migration_route.access.reauthentication import STAMP_KEY
from migration_route.core import clock

PASSWORD = "ada-password"


def signed_in_with_a_password(*, csrf: bool = False, **fields: Any) -> Client:
    """Return the client of a superuser who has just signed in."""
    made = User.objects.create_superuser("ada", password=PASSWORD, **fields)
    client = Client(enforce_csrf_checks=csrf)
    client.force_login(made)
    return client


def grow_old(client: Client, by: timedelta = timedelta(hours=1)) -> None:
    """Set the age of this client's login; a negative age lies in the future."""
    session = client.session
    at = clock.format_time(datetime.now(UTC) - by)
    session[STAMP_KEY] = {**session[STAMP_KEY], "at": at}
    session.save()


def is_fresh(client: Client) -> bool:
    """Return whether this client's login is fresh enough for a change.

    A run without a fingerprint is refused for the missing fingerprint only when the login
    is accepted.
    """
    answer = client.post("/migrations/api/v1/runs", {}, content_type="application/json")
    codes = {"fingerprint_required": True, "reauthentication_required": False}
    return codes[answer.json()["code"]]
