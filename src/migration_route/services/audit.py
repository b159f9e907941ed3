"""Records denials, refusals and the use of previous secrets on the ledger.

Anonymous callers can be denied any number of times, and the ledger never shrinks. So equal
denials from one address get one entry per minute, with the number of omitted ones; the log
has all of them.

An action that changes something names its secret on the ledger. A read leaves no entry, so
the use of a previous secret, which is about to be removed from the settings, gets one entry
per hour and process.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace

from django.db import Error as DatabaseFailure
from django.db import InterfaceError, OperationalError

from migration_route.access.actors import Actor
from migration_route.core.enums import Action
from migration_route.core.errors import (
    DatabaseUnavailable,
    Forbidden,
    InvalidRequest,
    Refused,
    RouteError,
    Unauthenticated,
)
from migration_route.ledger.entries import Draft, log_only, write_if_possible
from migration_route.ledger.queries import database_of
from migration_route.planning import sources
from migration_route.vendors import refusal_of

_ID_LENGTH = 32


def require_valid_id(text: str, *, of: str) -> str:
    """Return the id unchanged. Raises `InvalidRequest` when its format is invalid."""
    if len(text) != _ID_LENGTH or set(text) - set("0123456789abcdef"):
        raise InvalidRequest(f"The id of a {of} has {_ID_LENGTH} hexadecimal digits.")
    return text


WINDOW = 60.0
"""Seconds between two entries of equal denials."""

MAX_TRACKED = 50
"""How many attempts are tracked separately; all others share one entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The attributes by which denials are equal."""

    kind: str
    address: str
    verb: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppressed:
    """How many denials this process has omitted since the previous entry."""

    same: int = 0  # of the same attempt
    elsewhere: int = 0  # of attempts that are no longer tracked separately


@dataclass(slots=True, kw_only=True)
class _Tracked:
    since: float
    omitted: int = 0


_OTHERS = Attempt(kind="", address="", verb="", code="")


class AnonymousDenialThrottle:
    """Tracks the attempts of the last `window` seconds, at most `MAX_TRACKED`."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, window: float = WINDOW
    ) -> None:
        self._clock = clock
        self._window = window
        self._lock = threading.Lock()
        self._tracked: dict[Attempt, _Tracked] = {}
        self._elsewhere = 0

    def admit(self, attempt: Attempt) -> Suppressed | None:
        """Return the numbers to add to the entry; None: write no entry."""
        with self._lock:
            now = self._clock()
            if not self._has_room_for(attempt):
                self._drop_expired(now)
            is_separate = self._has_room_for(attempt)
            key = attempt if is_separate else _OTHERS
            tracked = self._tracked.get(key, _Tracked(since=now - self._window))
            if now - tracked.since < self._window:
                tracked.omitted += 1
                return None
            self._tracked[key] = _Tracked(since=now)
            if not is_separate:
                self._elsewhere += tracked.omitted
            suppressed = Suppressed(
                same=tracked.omitted if is_separate else 0, elsewhere=self._elsewhere
            )
            self._elsewhere = 0
            return suppressed

    def _has_room_for(self, attempt: Attempt) -> bool:
        return attempt in self._tracked or len(self._tracked) < MAX_TRACKED

    def _drop_expired(self, now: float) -> None:
        for attempt, tracked in list(self._tracked.items()):
            if now - tracked.since >= self._window:
                self._elsewhere += tracked.omitted
                del self._tracked[attempt]

    def forget(self) -> None:
        with self._lock:
            self._tracked.clear()
            self._elsewhere = 0


_HOUR = 3600.0
previous_secret_throttle = AnonymousDenialThrottle(window=_HOUR)


def record_previous_secret_use(actor: Actor, verb: str) -> None:
    """Record on the ledger that the actor uses a previous secret, if it does."""
    credential = actor.credential
    if credential is None or not credential.is_old or actor.access_error is not None:
        return
    attempt = Attempt(kind=actor.kind, address="", verb="", code=credential.id)
    if previous_secret_throttle.admit(attempt) is None:
        return
    write_if_possible(
        Draft(
            action=Action.PREVIOUS_SECRET_USED,
            actor_kind=actor.kind,
            actor_name=actor.name,
            address=actor.address,
            build=sources.build(),
            facts={"verb": verb, "credential": actor.credential_facts},
        )
    )


logger = logging.getLogger("migration_route.services")
anonymous_denials = AnonymousDenialThrottle()
_is_within: ContextVar[bool] = ContextVar("on_record", default=False)


@contextmanager
def audited(
    actor: Actor, verb: str, *, database: str = "", run: str = ""
) -> Iterator[None]:
    """Record on the ledger what the block denies or refuses to the actor.

    Denials of anonymous callers are throttled.

    Raises `DatabaseUnavailable` when a database does not respond in the block, or refuses
    what the block needs: a privilege, a write, a file beside it.
    """
    if _is_within.get():
        yield  # only the outermost block records
        return
    record_previous_secret_use(actor, verb)
    token = _is_within.set(True)
    try:
        yield
    except (Unauthenticated, Forbidden) as error:
        _record(Action.DENIED, error, actor, verb, database, run)
        raise
    except Refused as error:
        _record(Action.REFUSED, error, actor, verb, database, run)
        raise
    except (DatabaseFailure, OSError) as error:
        if (unavailable := _as_unavailable(error)) is None:
            raise
        # The driver's message may name hosts and users: it goes to the log only.
        logger.warning("A database failed during %s", verb, exc_info=True)
        raise unavailable from error
    finally:
        _is_within.reset(token)


def _as_unavailable(error: Exception) -> DatabaseUnavailable | None:
    """Return the error to show for a database failure; None for a programming error."""
    if refusal := refusal_of(error):
        return DatabaseUnavailable(refusal.message, hint=refusal.hint)
    if not isinstance(error, OperationalError | InterfaceError):
        return None
    return DatabaseUnavailable(
        "Reading or writing a database failed.",
        hint="If a migration has locked it, retry later. See the server log for details.",
    )


def _record(
    action: Action, error: RouteError, actor: Actor, verb: str, database: str, run: str
) -> None:
    draft = Draft(
        action=action,
        actor_kind=actor.kind,
        actor_name=_printable(actor.name, 200),
        address=actor.address,
        database=_printable(database or _database_of(run, error), 200),
        run=_printable(run, 32),
        build=sources.build(),
        facts={
            "verb": verb,
            "code": error.code,
            "message": _printable(error.message, 500),
            **({"credential": actor.credential_facts} if actor.credential else {}),
        },
    )
    if actor.name:
        write_if_possible(draft)
        return
    suppressed = anonymous_denials.admit(
        Attempt(kind=actor.kind, address=actor.address, verb=verb, code=error.code)
    )
    if suppressed is None:
        log_only(draft)
        return
    counts = {"left_out": suppressed.same, "left_out_elsewhere": suppressed.elsewhere}
    write_if_possible(replace(draft, facts={**draft.facts, **counts}))


def _database_of(run: str, error: RouteError) -> str:
    """Return the database of the run that was named in the request or the error.

    "" if no run was named, the run does not exist, or the ledger is unavailable.
    """
    named = run or str(error.facts.get("run") or "")
    try:
        return database_of(require_valid_id(named, of="run")) if named else ""
    except (InvalidRequest, DatabaseUnavailable):
        return ""


def _printable(text: str, length: int) -> str:
    """Return the text of a caller in a form that every database can store."""
    return "".join(char if char.isprintable() else "�" for char in text[:length])
