"""People who are signed in, and how their logins grow old."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.test import Client

from migration_route.access.reauthentication import KEY
from migration_route.core import clock

PASSWORD = "ada-password"


def signed_in_with_a_password(*, csrf: bool = False, **fields: Any) -> Client:
    """Return the browser of a superuser who has just signed in."""
    made = User.objects.create_superuser("ada", password=PASSWORD, **fields)
    client = Client(enforce_csrf_checks=csrf)
    client.force_login(made)
    return client


def grow_old(client: Client, by: timedelta = timedelta(hours=1)) -> None:
    """Let the login of this browser be as old as that; younger than now, if negative."""
    session = client.session
    at = clock.format_time(datetime.now(UTC) - by)
    session[KEY] = {**session[KEY], "at": at}
    session.save()


def is_fresh(client: Client) -> bool:
    """Tell whether this browser may change something: a run without a fingerprint is
    refused for want of it, once everything else is well."""
    answer = client.post("/migrations/api/v1/runs", {}, content_type="application/json")
    codes = {"fingerprint_required": True, "reauthentication_required": False}
    return codes[answer.json()["code"]]
