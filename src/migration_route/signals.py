"""How does code of the project hear what happens? By Django's signals, one for each edge.

    from django.dispatch import receiver
    from migration_route.signals import run_ended

    @receiver(run_ended)
    def tell(sender, happening, **kwargs): ...

A signal is sent in the process in which the entry of its edge was committed, after that,
and in a thread of its own: a receiver can fail, or take its time, and no run waits for it.
Each is sent at most once; a process that is killed sends no more. Webhooks are for what
must arrive.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterable

from django.db import Error as DatabaseFailure
from django.db import connections
from django.dispatch import Signal

from migration_route.core.events import EventType, RunEvent

logger = logging.getLogger("migration_route.signals")

_MOST = 10_000  # happenings that wait for receivers which take too long
_AT_THE_END = 5.0  # seconds that a process which ends gives its receivers

run_requested = Signal()
run_approval_needed = Signal()
run_approved = Signal()
run_rejected = Signal()
run_started = Signal()
run_waiting = Signal()
run_held = Signal()
run_resumed = Signal()
run_lost = Signal()
run_ended = Signal()
run_resolved = Signal()
step_started = Signal()
step_finished = Signal()
rehearsal_ended = Signal()
migrate_finished = Signal()
denied = Signal()
refused = Signal()

SIGNALS: dict[EventType, Signal] = {edge: globals()[edge.value] for edge in EventType}
"""The signal of each edge."""


class _Sending:
    """What waits to be sent, and the thread that sends it while anything waits."""

    def __init__(self) -> None:
        self._waiting: deque[RunEvent] = deque()
        self._changed = threading.Condition()
        self._is_sending = False

    def add(self, happenings: list[RunEvent]) -> None:
        with self._changed:
            room = _MOST - len(self._waiting)
            if room < len(happenings):
                logger.error("Receivers of signals take too long: some are not told.")
            self._waiting.extend(happenings[: max(room, 0)])
            if self._is_sending or not self._waiting:
                return
            self._is_sending = True
        try:
            threading.Thread(target=self._send, name="route signals", daemon=True).start()
        except RuntimeError:  # the interpreter is about to end, or has no threads left
            logger.exception("Signals cannot be sent now; the next one tries again.")
            with self._changed:
                self._is_sending = False
                self._changed.notify_all()

    def settle(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        with self._changed:
            while self._is_sending or self._waiting:
                if not self._changed.wait(deadline - time.monotonic()):
                    return False
        return True

    def _send(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._is_sending = False
                    self._changed.notify_all()
                    return
                happening = self._waiting.popleft()
                is_last = not self._waiting
            try:
                # What a receiver raises is logged by Django ("django.dispatch").
                SIGNALS[happening.edge].send_robust(RunEvent, happening=happening)
            except BaseException:
                # `SystemExit` and its like: the others are told all the same.
                logger.exception("A receiver of %s wanted to end.", happening.edge)
            if is_last:
                _close_connections()


def _close_connections() -> None:
    """Close what receivers have opened in this thread."""
    try:
        connections.close_all()
    except DatabaseFailure:
        logger.warning("A connection of a receiver cannot be closed.", exc_info=True)


_sending = _Sending()


def announce(happenings: Iterable[RunEvent]) -> None:
    """Send what is on record, as soon as the thread comes to it; raises nothing."""
    heard = [each for each in happenings if SIGNALS[each.edge].has_listeners(RunEvent)]
    if heard:
        _sending.add(heard)


def settle(seconds: float = _AT_THE_END) -> bool:
    """Wait until every signal has been sent; False when that takes longer. For tests."""
    return _sending.settle(seconds)


def _start_afresh() -> None:
    """Leave to the parent what it was about to send: its thread is not in this fork."""
    global _sending
    _sending = _Sending()


os.register_at_fork(after_in_child=_start_afresh)
atexit.register(lambda: _sending.settle(_AT_THE_END))
