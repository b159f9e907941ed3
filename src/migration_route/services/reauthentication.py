"""Let a person show anew who they are.

How often has somebody tried just now? In this process, and at the same time.
"""

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
    """Remembers when each name has tried within a window of seconds."""

    def __init__(
        self, *, window: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._window = window
        self._clock = clock
        self._lock = threading.Lock()
        self._tried: dict[str, list[float]] = {}

    def begin(self, name: str) -> int:
        """Note an attempt, and return how many there were in the window before it."""
        with self._lock:
            now = self._clock()
            if len(self._tried) >= _MOST_NAMES:
                self._tried = {
                    name: times
                    for name, times in self._tried.items()
                    if now - times[-1] < self._window
                }
            times = [at for at in self._tried.get(name, ()) if now - at < self._window]
            self._tried[name] = [*times, now][-_MOST_NAMES:]
            return len(times)

    def forget(self, name: str = "") -> None:
        """Forget what one name has tried, or all of them."""
        with self._lock:
            if name:
                self._tried.pop(name, None)
            else:
                self._tried.clear()


WINDOW = timedelta(minutes=15)
MOST = 5
"""So many wrong passwords of one person are heard within the window, then none."""


class WrongPassword(Forbidden):
    """This is not the password of the one who is signed in."""

    code = "wrong_password"


class TooManyAttempts(Forbidden):
    """Too many wrong passwords were given."""

    code = "too_many_attempts"
    http_status = 429
    hint = "Wait, or sign out and in again."


attempts = RateLimiter(window=WINDOW.total_seconds())


def reauthenticate(
    actor: Actor, *, is_right: Callable[[], bool], renew: Callable[[], None]
) -> None:
    """Ask whether the password is right, and renew the session if it is.

    A wrong one is on the ledger; it is counted there for all processes, and here for
    those that come at the same time. Raises `WrongPassword` and `TooManyAttempts`, and
    what keeps the actor from a change if a password does not mend that.
    """
    with audited(actor, "reauthenticate"):
        _require_person(actor)
        before = clock.format_time(datetime.now(UTC) - WINDOW)
        known = count_denials(actor.name, code=WrongPassword.code, since=before)
        if max(known, attempts.begin(actor.name)) >= MOST:
            raise TooManyAttempts(
                f"{MOST} wrong passwords of {actor.name!r} have come within "
                f"{WINDOW.seconds // 60} minutes: no other is heard for a while.",
                retry_after=int(WINDOW.total_seconds()),
            )
        if not is_right():
            raise WrongPassword(f"This is not the password of {actor.name!r}.")
        attempts.forget(actor.name)
        try:
            renew()
        except DatabaseError as error:
            raise DatabaseUnavailable("The session cannot be written now.") from error


def _require_person(actor: Actor) -> None:
    flaw = actor.flaw
    if flaw is not None and not asks_for_password(flaw):
        raise flaw
    if actor.kind is ActorKind.ANONYMOUS:
        raise Unauthenticated
    if actor.kind is not ActorKind.PERSON:
        raise Forbidden("Only a person who is signed in has a login to renew.")


def asks_for_password(flaw: RouteError) -> bool:
    """Tell whether the password is what keeps somebody from a change."""
    is_required = isinstance(flaw, ReauthenticationRequired)
    return is_required and flaw.facts["way"] == ReauthenticationMethod.PASSWORD
