"""Which signal has told this process to end? It ends when its work allows it."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from migration_route.vendors import vendor_of

_ENDING = (signal.SIGTERM, signal.SIGINT)


class ShutdownSignals:
    """What was received, and when."""

    def __init__(self) -> None:
        self.name = ""  # "" while nothing was
        self.since = 0.0  # on the monotonic clock
        self.count = 0
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; the first one counts."""
        del frame
        self.count += 1
        with suppress(BlockingIOError):  # full: whoever pauses is woken anyway
            os.write(self._writing, b"!")
        if not self.name:
            self.since = time.monotonic()
            self.name = signal.Signals(number).name

    def pause(self, seconds: float) -> None:
        """Wait for so long, or until a signal comes."""
        if select.select([self._reading], [], [], max(seconds, 0))[0]:
            os.read(self._reading, 1)

    def close(self) -> None:
        """Give back what it needed to wake a pause."""
        os.close(self._reading)
        os.close(self._writing)


@contextmanager
def handle_shutdown_signals() -> Iterator[ShutdownSignals]:
    """Note SIGTERM and SIGINT, in the main thread, instead of ending at once."""
    found = ShutdownSignals()
    before = {}
    # Python lets no other thread say what signals do.
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, found.receive) for number in _ENDING}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        found.close()


# --- the worker's side --------------------------------------------------------------


def install_worker_handlers() -> None:
    """Let SIGINT raise `KeyboardInterrupt` in this worker, out of a statement as well,
    and leave SIGTERM to the supervisor: a whole group of processes is often sent it.

    Python runs its handlers between two of its own steps: the thread is told by the
    descriptor at once, also while the main thread stands in a statement.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    connections: list[BaseDatabaseWrapper] = []

    def remember(connection: BaseDatabaseWrapper, **_: Any) -> None:
        if connection not in connections:
            connections.append(connection)

    connection_created.connect(
        remember, weak=False, dispatch_uid="migration_route.interrupts"
    )
    signal.signal(signal.SIGTERM, _leave_it)  # not SIG_IGN: programs it starts inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_interrupt, args=(reading, connections), daemon=True).start()


def ignore_interrupts() -> None:
    """Let nothing disturb the last words of this worker."""
    signal.signal(signal.SIGINT, _leave_it)


def _leave_it(number: int, frame: FrameType | None) -> None:
    del number, frame


def _interrupt(reading: int, connections: list[BaseDatabaseWrapper]) -> None:
    while received := os.read(reading, 1):
        if received[0] == signal.SIGINT:
            for connection in connections:
                vendor_of(connection.alias).interrupt(connection)
