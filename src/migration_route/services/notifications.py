"""Delivers notifications of ledger entries, in a thread or process of its own.

A request does no network I/O, and a run never waits for a delivery. Notifications are
delivered by a thread in the process of a run, by `manage.py migration_route worker`, or,
for an event that no such process handles, by a process that is started for it and exits.

Every process of a project imports this module.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.signals import setting_changed
from django.db import connections

from migration_route import signals
from migration_route.conf import route_settings
from migration_route.core.errors import LaunchFailed
from migration_route.core.events import EventType, RunEvent
from migration_route.execution.launchers.process import remove_log, spawn
from migration_route.notifications import dispatcher

logger = logging.getLogger("migration_route.notifications")

_DRAIN_TIMEOUT = 3.0  # seconds for the remaining messages when a run has ended
_MAX_LIFETIME = timedelta(minutes=15)  # of a process that only delivers
_MAX_SLEEP = 5.0
_DELAY_AFTER_ERROR = timedelta(seconds=5)
# Events that a process of the run follows, which delivers them, and events that anonymous
# callers can cause any number of times.
_NO_PROCESS_FOR = frozenset(
    {EventType.RUN_REQUESTED, EventType.RUN_APPROVED, EventType.DENIED, EventType.REFUSED}
)


def connect_signals() -> None:
    """Connect to the signals of this process if there are recipients."""
    setting_changed.connect(_settings_changed, dispatch_uid="migration_route.notifications")
    _settings_changed(setting="MIGRATION_ROUTE")


def _settings_changed(*, setting: str, **_: Any) -> None:
    if setting != "MIGRATION_ROUTE":
        return
    has_recipients = bool(route_settings().recipients)
    for edge, signal in signals.SIGNALS.items():
        uid = f"migration_route.notifications {edge}"
        if has_recipients:
            signal.connect(_receive, weak=False, dispatch_uid=uid)
        else:
            signal.disconnect(dispatch_uid=uid)


def _receive(event: RunEvent, **_: Any) -> None:
    edges, database = (event.edge,), event.database
    if any(
        recipient.event_type_for(edges, database)
        for recipient in route_settings().recipients
    ):
        schedule_delivery(event.edge)


def deliver_due(now: datetime | None = None) -> datetime | None:
    """Deliver what is due; return when the next delivery is due, None for none.

    Never raises, because loops call it. The returned time does not include events of other
    processes meanwhile: call it every few seconds.
    """
    try:
        return dispatcher.deliver_due(now)
    except Exception:  # an error here must not end a loop that has other tasks
        logger.exception("Internal error while delivering notifications.")
        return datetime.now(UTC) + _DELAY_AFTER_ERROR


class _Deliverer:
    """The thread of this process that delivers notifications."""

    def __init__(self) -> None:
        self._awake = threading.Event()
        self._starting = threading.Lock()
        self._ends_at: float | None = None  # on the monotonic clock; None: not ending
        self._is_done = False
        self._thread = threading.Thread(
            target=self._work, name="notifications", daemon=True
        )

    def wake(self) -> None:
        """Check the outbox now.

        The first call starts the thread: by then the worker of the run is forked.
        """
        self._awake.set()
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()

    def end(self, *, within: float) -> bool:
        """Deliver the rest within so many seconds; return whether nothing is left."""
        self._ends_at = time.monotonic() + within
        self.wake()
        self._thread.join(within)
        return self._is_done

    def _work(self) -> None:
        try:
            while True:
                ends_at = self._ends_at
                self._awake.clear()
                due = deliver_due()
                if ends_at is not None:
                    self._is_done = due is None
                    if self._is_done or time.monotonic() > ends_at:
                        return
                self._awake.wait(_seconds_until(due))
        finally:
            connections.close_all()


def _seconds_until(due: datetime | None) -> float:
    if due is None:
        return _MAX_SLEEP
    left = (due - datetime.now(UTC)).total_seconds()
    return min(max(left, 0.05), _MAX_SLEEP)


_deliverer: _Deliverer | None = None
_is_worker = False  # forked by a process that delivers: only that one delivers


@contextmanager
def deliver_in_process() -> Iterator[None]:
    """Deliver notifications in a thread of this process of a run during the block.

    Deliveries that are left a few seconds after the block are made by another process.
    """
    global _deliverer
    if not route_settings().recipients:
        yield
        return
    _deliverer = _Deliverer()
    try:
        yield
    finally:
        deliverer, _deliverer = _deliverer, None
        if not deliverer.end(within=_DRAIN_TIMEOUT):
            _process.ask()


def drain(words: str) -> None:
    """Deliver everything that is pending; the work of a process that only delivers."""
    ends = datetime.now(UTC) + _MAX_LIFETIME
    while (due := deliver_due()) is not None and due < ends:
        time.sleep(_seconds_until(due))
    remove_log(words)


class _Process:
    """The delivery process that this process has started, if any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_alive = False
        self._is_requested = False

    def ask(self) -> None:
        """Ensure that a process checks the outbox after this call."""
        if route_settings().launcher != "process":
            return  # with another launcher, a worker delivers
        with self._lock:
            if self._is_alive:
                self._is_requested = True  # it may be about to exit: another one follows
            else:
                self._start()

    def _start(self) -> None:
        name = f"deliver-{os.getpid()}"
        try:
            process = spawn(name, "deliver-notifications", name)
        except LaunchFailed:
            logger.exception("Starting a process to deliver notifications failed.")
            return
        self._is_alive, self._is_requested = True, False
        threading.Thread(target=self._wait_for, args=(process,), daemon=True).start()

    def _wait_for(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        with self._lock:
            self._is_alive = False
            if self._is_requested:
                self._start()


_process = _Process()


def schedule_delivery(edge: EventType) -> None:
    """Ensure that an event of this process is delivered, by its thread or a new process."""
    if _is_worker:
        return
    deliverer = _deliverer
    if deliverer is not None:
        deliverer.wake()
    elif edge not in _NO_PROCESS_FOR:
        _process.ask()


def _note_fork() -> None:
    """Disable deliveries in a worker that was just forked: its supervisor delivers."""
    global _is_worker
    _is_worker = _deliverer is not None


os.register_at_fork(after_in_child=_note_fork)
