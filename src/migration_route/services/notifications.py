"""Tell people and machines what is on the ledger: who does it, in which process?

A request does no network, and a run waits for nobody. What is told is told by a thread of
the run's own process, beside the run; by `manage.py migration_route work`; and, where
something happens that no such process sees, by a process that is started for it and ends.

Does this process listen to what happens, so that it is told?

Every process of a project imports this. What tells is imported where there is somebody to
be told, and something has happened or is about to.
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
from migration_route.conf.recipients import recipients, wanted_by
from migration_route.core.errors import LaunchFailed
from migration_route.core.events import EventType, RunEvent
from migration_route.execution.launchers.process import remove_log, spawn
from migration_route.notifications import dispatcher


def connect() -> None:
    """Look at every edge in this process, if there is somebody to be told."""
    setting_changed.connect(_settings_changed, dispatch_uid="migration_route.notifications")
    _settings_changed(setting="MIGRATION_ROUTE")


def _settings_changed(*, setting: str, **_: Any) -> None:
    if setting != "MIGRATION_ROUTE":
        return
    is_anybody = bool(recipients())
    for edge, signal in signals.SIGNALS.items():
        uid = f"migration_route.notifications {edge}"
        if is_anybody:
            signal.connect(_look, weak=False, dispatch_uid=uid)
        else:
            signal.disconnect(dispatch_uid=uid)


def _look(happening: RunEvent, **_: Any) -> None:
    edges, database = (happening.edge,), happening.database
    if any(wanted_by(recipient, edges, database) for recipient in recipients()):
        schedule_delivery(happening.edge)


@contextmanager
def deliver_in_process() -> Iterator[None]:
    """Let this process, which carries out a run, tell what happens while the block lasts,
    and for a moment after it; what is left then is told by another."""
    if not recipients():
        yield
        return
    with delivery_thread():
        yield


logger = logging.getLogger("migration_route.notifications")

_TAIL = 3.0  # seconds that a run's process gives its messages when the run has ended
_LONGEST_LIFE = timedelta(minutes=15)  # of a process that was started for this alone
_LONGEST_SLEEP = 5.0
_AFTER_A_FAULT = timedelta(seconds=5)
# What comes right before a process of the run, which tells it, or what strangers can
# bring about as often as they like.
_NO_PROCESS_FOR = frozenset(
    {EventType.RUN_REQUESTED, EventType.RUN_APPROVED, EventType.DENIED, EventType.REFUSED}
)


def deliver_due(now: datetime | None = None) -> datetime | None:
    """Tell everybody what is due; return when something is due again, None for nothing.

    What a loop calls; it raises nothing. What happens in other processes meanwhile is not
    in the answer: call it every few seconds.
    """
    try:
        return dispatcher.deliver_due(now)
    except Exception:  # a fault in here must not end a loop that does more than this
        logger.exception("Something went wrong that nobody foresaw.")
        return datetime.now(UTC) + _AFTER_A_FAULT


class _Deliverer:
    """The thread of this process that tells what is on the ledger."""

    def __init__(self) -> None:
        self._awake = threading.Event()
        self._starting = threading.Lock()
        self._ends_at: float | None = None  # on the monotonic clock; None: goes on
        self._is_done = False
        self._thread = threading.Thread(target=self._work, name="route told", daemon=True)

    def wake(self) -> None:
        """Look at the outbox now. The thread begins with the first edge: by then the
        worker of this run is forked."""
        self._awake.set()
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()

    def end(self, *, within: float) -> bool:
        """Give it so many seconds to tell the rest; return whether nothing is left."""
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
        return _LONGEST_SLEEP
    left = (due - datetime.now(UTC)).total_seconds()
    return min(max(left, 0.05), _LONGEST_SLEEP)


_here: _Deliverer | None = None
_is_worker = False  # forked by a process that tells: that one goes on telling


@contextmanager
def delivery_thread() -> Iterator[None]:
    """Let a thread of this process tell while the block lasts, and for a moment after it;
    what is left then is told by another process."""
    global _here
    _here = _Deliverer()
    try:
        yield
    finally:
        deliverer, _here = _here, None
        if not deliverer.end(within=_TAIL):
            _process.ask()


def drain(words: str) -> None:
    """Tell everything that waits, then return; what a process of its own is started for."""
    ends = datetime.now(UTC) + _LONGEST_LIFE
    while (due := deliver_due()) is not None and due < ends:
        time.sleep(_seconds_until(due))
    remove_log(words)


class _Process:
    """The process that this one has started to tell something, if any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_alive = False
        self._is_asked = False

    def ask(self) -> None:
        """See to it that one looks at the outbox after this moment."""
        if route_settings().launcher != "process":
            return  # whoever says where processes come from runs `work`
        with self._lock:
            if self._is_alive:
                self._is_asked = True  # it may be about to end: another one follows then
            else:
                self._start()

    def _start(self) -> None:
        name = f"deliver-{os.getpid()}"
        try:
            process = spawn(name, "deliver", name)
        except LaunchFailed:
            logger.exception("No process could be started that tells what happened.")
            return
        self._is_alive, self._is_asked = True, False
        threading.Thread(target=self._tend, args=(process,), daemon=True).start()

    def _tend(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        with self._lock:
            self._is_alive = False
            if self._is_asked:
                self._start()


_process = _Process()


def schedule_delivery(edge: EventType) -> None:
    """See to it that what has happened in this process is told, by the thread that tells
    here or by a process of its own."""
    if _is_worker:
        return
    deliverer = _here
    if deliverer is not None:
        deliverer.wake()
    elif edge not in _NO_PROCESS_FOR:
        _process.ask()


def _note_fork() -> None:
    """Leave the telling to the supervisor, in the worker that it has just forked."""
    global _is_worker
    _is_worker = _here is not None


os.register_at_fork(after_in_child=_note_fork)
