"""Which denials of callers without a name come onto the ledger?

Anybody can be turned away as often as they like, and the ledger never shrinks. So
strangers who do the same from the same address have one entry a minute, which tells how
many were left out; the log has them all.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

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
class LeftOut:
    """How many denials this process has left out since it last told."""

    same: int = 0  # of the same attempt
    elsewhere: int = 0  # of others that it does not tell apart any more


@dataclass(slots=True, kw_only=True)
class _Seen:
    since: float
    left_out: int = 0


_CROWD = Attempt(kind="", address="", verb="", code="")


class Strangers:
    """Remembers the attempts of the last `window` seconds, and not more than `MOST`."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, window: float = WINDOW
    ) -> None:
        self._clock = clock
        self._window = window
        self._lock = threading.Lock()
        self._seen: dict[Attempt, _Seen] = {}
        self._elsewhere = 0

    def admit(self, attempt: Attempt) -> LeftOut | None:
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
            left_out = LeftOut(
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
