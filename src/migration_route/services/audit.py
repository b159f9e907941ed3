"""Who was turned away, and why? A denial is on the ledger as well.

Is this the id of a run or of a rehearsal?

Which denials of callers without a name come onto the ledger?

Anybody can be turned away as often as they like, and the ledger never shrinks. So
strangers who do the same from the same address have one entry a minute, which tells how
many were left out; the log has them all.

Is the old secret of a token still in use somewhere?

What changes something names its secret on the ledger anyway. What only reads leaves no
line there; so for an old secret, which is about to be taken out of the settings, there is
one line an hour, in each process.
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
from migration_route.vendors.error_causes import refusal_of

_LENGTH = 32


def checked(text: str, *, of: str) -> str:
    """Return an id as it came. Raises `InvalidRequest` when it cannot be one."""
    if len(text) != _LENGTH or set(text) - set("0123456789abcdef"):
        raise InvalidRequest(f"The id of a {of} has {_LENGTH} hexadecimal digits.")
    return text


WINDOW = 60.0
"""Seconds between two entries for the same."""

MOST = 50
"""How many are told apart at a time; all others are a crowd, with one entry for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What a stranger tried."""

    kind: str
    address: str
    verb: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppressed:
    """How many denials this process has left out since it last told."""

    same: int = 0  # of the same attempt
    elsewhere: int = 0  # of others that it does not tell apart any more


@dataclass(slots=True, kw_only=True)
class _Seen:
    since: float
    left_out: int = 0


_CROWD = Attempt(kind="", address="", verb="", code="")


class AnonymousDenialThrottle:
    """Remembers the attempts of the last `window` seconds, and not more than `MOST`."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, window: float = WINDOW
    ) -> None:
        self._clock = clock
        self._window = window
        self._lock = threading.Lock()
        self._seen: dict[Attempt, _Seen] = {}
        self._elsewhere = 0

    def admit(self, attempt: Attempt) -> Suppressed | None:
        """Return what an entry has to tell besides, or None where there is to be none."""
        with self._lock:
            now = self._clock()
            if not self._has_room_for(attempt):
                self._forget_the_old(now)
            told_apart = self._has_room_for(attempt)
            key = attempt if told_apart else _CROWD
            seen = self._seen.get(key, _Seen(since=now - self._window))
            if now - seen.since < self._window:
                seen.left_out += 1
                return None
            self._seen[key] = _Seen(since=now)
            if not told_apart:
                self._elsewhere += seen.left_out
            left_out = Suppressed(
                same=seen.left_out if told_apart else 0, elsewhere=self._elsewhere
            )
            self._elsewhere = 0
            return left_out

    def _has_room_for(self, attempt: Attempt) -> bool:
        return attempt in self._seen or len(self._seen) < MOST

    def _forget_the_old(self, now: float) -> None:
        for attempt, seen in list(self._seen.items()):
            if now - seen.since >= self._window:
                self._elsewhere += seen.left_out
                del self._seen[attempt]

    def forget(self) -> None:
        """Forget all of them."""
        with self._lock:
            self._seen.clear()
            self._elsewhere = 0


_HOUR = 3600.0
seen = AnonymousDenialThrottle(window=_HOUR)


def record_previous_secret_use(actor: Actor, verb: str) -> None:
    """Put a line on the ledger when the actor has come with an old secret."""
    credential = actor.credential
    if credential is None or not credential.is_old or actor.flaw is not None:
        return
    attempt = Attempt(kind=actor.kind, address="", verb="", code=credential.id)
    if seen.admit(attempt) is None:
        return
    write_if_possible(
        Draft(
            action=Action.OLD_SECRET_USED,
            actor_kind=actor.kind,
            actor_name=actor.name,
            address=actor.address,
            build=sources.build(),
            facts={"verb": verb, "credential": actor.credential_facts},
        )
    )


logger = logging.getLogger("migration_route.services")
strangers = AnonymousDenialThrottle()
_is_within: ContextVar[bool] = ContextVar("on_record", default=False)


@contextmanager
def audited(
    actor: Actor, verb: str, *, database: str = "", run: str = ""
) -> Iterator[None]:
    """Note on the ledger what the block denies or refuses to the actor.

    What a caller without a name is denied is noted as `operations.strangers` tells.

    Raises `DatabaseUnavailable` where a database does not answer in the block, or refuses
    what the block needs: a privilege, a write, a file beside it.
    """
    if _is_within.get():
        yield  # what the outermost block was asked for is what is noted
        return
    record_previous_secret_use(actor, verb)
    token = _is_within.set(True)
    try:
        yield
    except (Unauthenticated, Forbidden) as error:
        _note(Action.DENIED, error, actor, verb, database, run)
        raise
    except Refused as error:
        _note(Action.REFUSED, error, actor, verb, database, run)
        raise
    except (DatabaseFailure, OSError) as error:
        if (unavailable := _as_unavailable(error)) is None:
            raise
        # What the driver says may name hosts and users: it is for the log alone.
        logger.warning("%s could not use a database", verb, exc_info=True)
        raise unavailable from error
    finally:
        _is_within.reset(token)


def _as_unavailable(error: Exception) -> DatabaseUnavailable | None:
    """Return what to tell of an error of a database; None for one that is no answer to
    the caller, but a fault."""
    if refusal := refusal_of(error):
        return DatabaseUnavailable(refusal.message, hint=refusal.hint)
    if not isinstance(error, OperationalError | InterfaceError):
        return None
    return DatabaseUnavailable(
        "A database could not be read or written.",
        hint="If a migration holds it, ask again later; the server's log has the rest.",
    )


def _note(
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
    left_out = strangers.admit(
        Attempt(kind=actor.kind, address=actor.address, verb=verb, code=error.code)
    )
    if left_out is None:
        log_only(draft)
        return
    told = {"left_out": left_out.same, "left_out_elsewhere": left_out.elsewhere}
    write_if_possible(replace(draft, facts={**draft.facts, **told}))


def _database_of(run: str, error: RouteError) -> str:
    """Return the database that a denial or refusal is about: that of the run which was
    named; "" where none was, there is no such run, or the ledger does not answer."""
    named = run or str(error.facts.get("run") or "")
    try:
        return database_of(checked(named, of="run")) if named else ""
    except (InvalidRequest, DatabaseUnavailable):
        return ""


def _printable(text: str, length: int) -> str:
    """Return what a caller sent as every database can store it."""
    return "".join(sign if sign.isprintable() else "�" for sign in text[:length])
