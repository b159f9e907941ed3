"""Confirms the password of a signed-in user again, with a limit on wrong attempts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from django.db import DatabaseError

from migration_route.access.actors import Actor
from migration_route.access.reauthentication import ReauthenticationMethod
from migration_route.core import clock
from migration_route.core.enums import ActorKind
from migration_route.core.errors import (
    DatabaseUnavailable,
    Forbidden,
    ReauthenticationRequired,
    RouteError,
    Unauthenticated,
)
from migration_route.ledger.queries import count_denials
from migration_route.services.audit import audited

_MOST_NAMES = 1000


class RateLimiter:
    """Counts the attempts of each name in this process, within a window of seconds."""

    def __init__(
        self, *, window: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._attempts: dict[str, list[float]] = {}

    def begin(self, name: str) -> int:
        """Count an attempt; return the number of previous ones in the window."""
        with self._lock:
            now = self._clock()
            if len(self._attempts) >= _MOST_NAMES:
                self._attempts = {
                    name: times
                    for name, times in self._attempts.items()
                    if now - times[-1] < self._window
                }
            times = [at for at in self._attempts.get(name, ()) if now - at < self._window]
            self._attempts[name] = [*times, now][-_MOST_NAMES:]
            return len(times)

    def forget(self, name: str = "") -> None:
        """Reset the attempts of one name, or of all names."""
        with self._lock:
            if name:
                self._attempts.pop(name, None)
            else:
                self._attempts.clear()


WINDOW = timedelta(minutes=15)
MAX_WRONG_PASSWORDS = 5
"""Wrong passwords per user within the window, after which every attempt is refused."""


class WrongPassword(Forbidden):
    """The password is wrong."""

    code = "wrong_password"


class TooManyAttempts(Forbidden):
    """Too many wrong passwords."""

    code = "too_many_attempts"
    http_status = 429
    hint = "Wait, or sign out and in again."


attempts = RateLimiter(window=WINDOW.total_seconds())


def reauthenticate(
    actor: Actor, *, is_right: Callable[[], bool], renew: Callable[[], None]
) -> None:
    """Check the password, and renew the session if it is right.

    A wrong password is recorded on the ledger, which counts for all processes; concurrent
    attempts are counted in this process. Raises `WrongPassword` and `TooManyAttempts`, and
    the actor's error if a password does not fix it.
    """
    with audited(actor, "reauthenticate"):
        _require_user(actor)
        since = clock.format_time(datetime.now(UTC) - WINDOW)
        recorded = count_denials(actor.name, code=WrongPassword.code, since=since)
        if max(recorded, attempts.begin(actor.name)) >= MAX_WRONG_PASSWORDS:
            raise TooManyAttempts(
                f"{MAX_WRONG_PASSWORDS} wrong passwords for {actor.name!r} within "
                f"{WINDOW.seconds // 60} minutes: further attempts are refused for now.",
                retry_after=int(WINDOW.total_seconds()),
            )
        if not is_right():
            raise WrongPassword(f"The password for {actor.name!r} is wrong.")
        attempts.forget(actor.name)
        try:
            renew()
        except DatabaseError as error:
            raise DatabaseUnavailable("Writing the session failed.") from error


def _require_user(actor: Actor) -> None:
    access_error = actor.access_error
    if access_error is not None and not asks_for_password(access_error):
        raise access_error
    if actor.kind is ActorKind.ANONYMOUS:
        raise Unauthenticated
    if actor.kind is not ActorKind.USER:
        raise Forbidden("Only a signed-in user can reauthenticate.")


def asks_for_password(access_error: RouteError) -> bool:
    """Whether confirming the password fixes this error."""
    is_required = isinstance(access_error, ReauthenticationRequired)
    return is_required and access_error.facts["way"] == ReauthenticationMethod.PASSWORD
