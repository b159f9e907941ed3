"""Django signals, one for each type of event.

    from django.dispatch import receiver
    from migration_route.signals import run_ended

    @receiver(run_ended)
    def notify(sender, event, **kwargs): ...

A signal is sent after the ledger entry of its event is committed, in the process that
committed it and on a separate thread: receivers may fail or be slow without delaying a run.
Each signal is sent at most once, and a process that is killed sends no more. Use webhooks
for what must arrive.
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

_MOST = 10_000  # events that wait for slow receivers
_AT_THE_END = 5.0  # seconds that an exiting process waits for its receivers

run_requested = Signal()
run_approval_needed = Signal()
run_approved = Signal()
run_rejected = Signal()
run_started = Signal()
run_waiting = Signal()
run_paused = Signal()
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


class _SignalQueue:
    """Events to be sent, and the thread that sends them while there are any."""

    def __init__(self) -> None:
        self._waiting: deque[RunEvent] = deque()
        self._changed = threading.Condition()
        self._is_sending = False

    def add(self, happenings: list[RunEvent]) -> None:
        with self._changed:
            room = _MOST - len(self._waiting)
            if room < len(happenings):
                logger.error("Signal receivers are too slow: some signals are not sent.")
            self._waiting.extend(happenings[: max(room, 0)])
            if self._is_sending or not self._waiting:
                return
            self._is_sending = True
        try:
            threading.Thread(target=self._send, name="route signals", daemon=True).start()
        except RuntimeError:  # the interpreter is shutting down or has no threads left
            logger.exception("Signals cannot be sent now; the next signal retries.")
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
                event = self._waiting.popleft()
                is_last = not self._waiting
            try:
                # What a receiver raises is logged by Django ("django.dispatch").
                SIGNALS[event.edge].send_robust(RunEvent, event=event)
            except BaseException:
                # `SystemExit` and the like must not keep other signals from being sent.
                logger.exception("A receiver of %s tried to exit the process.", event.edge)
            if is_last:
                _close_connections()


def _close_connections() -> None:
    """Close the connections that receivers opened in this thread."""
    try:
        connections.close_all()
    except DatabaseFailure:
        logger.warning("The connection of a receiver cannot be closed.", exc_info=True)


_queue = _SignalQueue()


def announce(happenings: Iterable[RunEvent]) -> None:
    """Queue a signal for each event that has receivers; raises nothing."""
    wanted = [each for each in happenings if SIGNALS[each.edge].has_listeners(RunEvent)]
    if wanted:
        _queue.add(wanted)


def settle(seconds: float = _AT_THE_END) -> bool:
    """Wait until every signal is sent; return False if that takes longer than `seconds`."""
    return _queue.settle(seconds)


def _reset_in_child() -> None:
    """Leave queued events to the parent: its thread does not exist in this fork."""
    global _queue
    _queue = _SignalQueue()


os.register_at_fork(after_in_child=_reset_in_child)
atexit.register(lambda: _queue.settle(_AT_THE_END))
