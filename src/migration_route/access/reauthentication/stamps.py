"""When did the person of this session last show who they are?

A stamp in the session, with the user that it is about: written at a login, wherever that
happens, and by the route's own question for the password.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest

from migration_route import clock

KEY = "_migration_route_login"
SKEW = timedelta(seconds=5)
"""By how much the clocks of two hosts may differ: a stamp from further in the future is
none, because the clock was set back, and nobody knows how old it is."""


def watch_logins() -> None:
    """Write a stamp at every login of the project."""
    user_logged_in.connect(_at_login, dispatch_uid="migration_route.login")


def _at_login(*, request: HttpRequest | None = None, user: Any, **_: Any) -> None:
    if hasattr(request, "session"):  # a login of a test, or of a command, may have none
        stamp(request.session, user)  # type: ignore[union-attr]


def stamp(session: Any, user: Any) -> None:
    """Write into the session that the user has shown now who they are."""
    session[KEY] = {"user": str(user.pk), "at": clock.now()}


def age_of_stamp(session: Any, user: Any) -> timedelta | None:
    """Return how old the stamp is; None where there is none of this user."""
    found = session.get(KEY)
    if not isinstance(found, dict) or found.get("user") != str(user.pk):
        return None
    try:
        return age(clock.parsed(found["at"]))
    except (KeyError, TypeError, ValueError):
        return None


def age(moment: datetime) -> timedelta | None:
    """Return how long ago a moment was; None where it is yet to come."""
    passed = datetime.now(UTC) - moment
    return max(passed, timedelta(0)) if passed >= -SKEW else None
