"""POSIX signal handling of the supervisor, which ends when its work allows it, and of the
worker.
"""

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

_SHUTDOWN = (signal.SIGTERM, signal.SIGINT)


class ShutdownSignals:
    """The shutdown signals that this process has received."""

    def __init__(self) -> None:
        self.name = ""  # "" if none
        self.since = 0.0  # on the monotonic clock
        self.count = 0
        self._reading, self._writing = os.pipe()
        os.set_blocking(self._writing, False)

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Record a signal; `name` and `since` are those of the first."""
        del frame
        self.count += 1
        with suppress(BlockingIOError):  # full: a waiting `pause` returns anyway
            os.write(self._writing, b"!")
        if not self.name:
            self.since = time.monotonic()
            self.name = signal.Signals(number).name

    def pause(self, seconds: float) -> None:
        """Wait for so many seconds, or until a signal arrives."""
        if select.select([self._reading], [], [], max(seconds, 0))[0]:
            os.read(self._reading, 1)

    def close(self) -> None:
        os.close(self._reading)
        os.close(self._writing)


@contextmanager
def handle_shutdown_signals() -> Iterator[ShutdownSignals]:
    """Record SIGTERM and SIGINT instead of ending at once; only in the main thread."""
    signals = ShutdownSignals()
    previous = {}
    # Only the main thread may set signal handlers.
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, signals.receive) for number in _SHUTDOWN}
    try:
        yield signals
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signals.close()


# --- the worker's side --------------------------------------------------------------


def install_worker_handlers() -> None:
    """Make SIGINT raise `KeyboardInterrupt` in this worker, even inside a statement, and
    ignore SIGTERM: it is often sent to the whole process group, and the supervisor handles
    it.

    Python runs signal handlers between bytecode instructions. The wakeup descriptor
    notifies a thread at once, even while the main thread waits in a statement.
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
    signal.signal(signal.SIGTERM, _ignore)  # not SIG_IGN, which child processes inherit
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(
        target=_interrupt_statements, args=(reading, connections), daemon=True
    ).start()


def ignore_interrupts() -> None:
    """Ignore SIGINT while this worker sends its last message."""
    signal.signal(signal.SIGINT, _ignore)


def _ignore(number: int, frame: FrameType | None) -> None:
    del number, frame


def _interrupt_statements(reading: int, connections: list[BaseDatabaseWrapper]) -> None:
    while received := os.read(reading, 1):
        if received[0] == signal.SIGINT:
            for connection in connections:
                vendor_of(connection.alias).interrupt(connection)
