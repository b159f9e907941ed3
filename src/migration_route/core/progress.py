"""`migration_route.progress`: how far a data migration is, as its own code reports it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[int, int | None], None]

_listener: Listener | None = None


def progress(done: int, total: int | None = None) -> None:
    """Report how many of `total` rows, batches or other units are done.

    Call it from RunPython as often as convenient: a run shows the latest numbers about once
    a second, with a percentage and the remaining time if `total` is known. Elsewhere, as in
    a `migrate` run by hand, it does nothing.
    """
    if _listener is not None:
        _listener(max(int(done), 0), None if total is None else max(int(total), 0))


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send what is reported in this block to the listener."""
    global _listener
    before, _listener = _listener, listener
    try:
        yield
    finally:
        _listener = before


_FIRST_PAUSE = 1.0
_SHARE = 0.02


class Throttle:
    """Lets a report pass once a second, and less often the longer the work takes: a run
    keeps every report, and a day of work must not fill the ledger."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._next = 0.0

    def restart(self) -> None:
        """Begin the work of which the next reports are."""
        self._since = time.monotonic()
        self._next = 0.0

    def is_due(self) -> bool:
        """Return whether a report may pass now; one that does delays the next."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + max(_FIRST_PAUSE, (now - self._since) * _SHARE)
        return True


def progress_words(done: int, total: int | None, unit: str = "") -> str:
    """Return progress as text: "1,200 of 6,000 rows (20 %)"."""
    behind = f" {unit}" if unit else ""
    if not total:
        return f"{done:,}{behind}"
    return f"{done:,} of {total:,}{behind} ({min(done / total, 1):.0%})".replace("%", " %")
