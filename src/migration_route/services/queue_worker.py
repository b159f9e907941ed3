"""Carry what is queued: the loop of a process of its own.

The loop itself migrates nothing: for each run it starts a process, with the code that is
on disk then. Of several workers, one gets a run; a run that waits for its opening is in
the table, and in no worker.

What has to be done from time to time, by whichever process is there for it?

`manage.py migration_route work` does it; where no such process is, what can be done by
whoever looks is done then.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from django.db import Error as DatabaseFailure

from migration_route.conf import route_settings
from migration_route.core import clock
from migration_route.core.enums import RunState
from migration_route.core.errors import DatabaseUnavailable, InvalidState, LaunchFailed
from migration_route.execution.launchers.process import claim_and_spawn
from migration_route.execution.posix_signals import ShutdownSignals, handle_shutdown_signals
from migration_route.execution.recovery import reaper
from migration_route.ledger.queries import active_runs, find_run
from migration_route.ledger.records import RunRecord
from migration_route.planning import sources
from migration_route.services.notifications import deliver_due
from migration_route.services.release import refresh

logger = logging.getLogger("migration_route.services")


@dataclass(frozen=True, slots=True, kw_only=True)
class PeriodicJob:
    """Something to do every so many seconds."""

    what: str
    every: float
    do: Callable[[], object]


def _look_after_runs() -> None:
    for run in active_runs().values():
        refresh(run)


PERIODIC_JOBS = (
    PeriodicJob(
        what="look after runs whose process is gone, or that wait for approval",
        every=2.0,
        do=_look_after_runs,
    ),
    PeriodicJob(what="tell people and machines what is due", every=2.0, do=deliver_due),
)
"""One line for each."""


@dataclass(slots=True)
class Scheduler:
    """The duties of one process, and when each was done last."""

    done_at: dict[str, float] = field(default_factory=dict)

    def do_what_is_due(self) -> bool:
        """Do it; one that fails is told to the log, and keeps the others from nothing.
        Returns whether all went well."""
        now, went_well = time.monotonic(), True
        for duty in PERIODIC_JOBS:
            last = self.done_at.get(duty.what)
            if last is not None and now - last < duty.every:
                continue
            self.done_at[duty.what] = now
            try:
                duty.do()
            except Exception:  # whatever it is, it is not to end the worker
                logger.exception("Could not %s.", duty.what)
                went_well = False
        return went_well


_LOOK = 0.2  # seconds between two looks at the process of a run
_OTHER_BUILD = timedelta(seconds=30)  # that a run is left to a worker of its own build


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueWorkerOptions:
    """How a worker works."""

    every: float = 1.0  # seconds between two looks at what is queued
    most_runs: int | None = None  # ends after so many; None: never by itself
    once: bool = False  # ends when nothing is to be done now
    databases: Collection[str] = ()  # aliases; none: every database
    alive: Path | None = None  # a file whose time tells when it last looked


class QueueWorker:
    """One loop."""

    def __init__(
        self,
        request: QueueWorkerOptions,
        signals: ShutdownSignals,
        say: Callable[[str], object],
    ) -> None:
        self._request = request
        self._signals = signals
        self._say = say
        self._duties = Scheduler()
        self._run = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._told = 0
        self.carried: list[str] = []

    def work(self) -> None:
        """Look, carry, and look again, until it is told to end."""
        while not self._is_over():
            self._look()
            if self._process is not None:
                self._watch()
            elif self._request.once:
                return
            else:
                self._signals.pause(self._request.every)

    def _is_over(self) -> bool:
        if self._process is not None:
            return False
        most = self._request.most_runs
        return bool(self._signals.name) or (most is not None and len(self.carried) >= most)

    def _look(self) -> None:
        try:
            all_went_well = self._duties.do_what_is_due()
            if self._process is None and not self._signals.name:
                self._begin_next()
        except (DatabaseFailure, DatabaseUnavailable):
            logger.warning("The ledger does not answer.", exc_info=True)
            return
        if all_went_well and self._request.alive is not None:
            self._request.alive.touch()

    def _begin_next(self) -> None:
        for run in due(self._request.databases):
            try:
                _, process = claim_and_spawn(run.id, "--hand-back")
            except InvalidState:
                continue  # another worker was faster, or it was cancelled
            except LaunchFailed:
                logger.exception("The process of run %s could not be started.", run.id)
                continue
            self._run, self._process = run.id, process
            self.carried.append(run.id)
            self._say(f"run {run.id} on {run.database}: begun")
            return

    def _watch(self) -> None:
        """Wait a moment for the process under way; told to end twice, pass it on."""
        process = self._process
        assert process is not None  # noqa: S101 - only called while there is one
        if self._signals.count > max(self._told, 1):
            self._told = self._signals.count
            process.terminate()  # it stops before its next step
        try:
            process.wait(_LOOK)
        except subprocess.TimeoutExpired:
            return
        self._process = None
        run = reaper.reap(find_run(self._run))
        self._say(f"run {run.id} on {run.database}: {run.state}")


def work(request: QueueWorkerOptions, say: Callable[[str], object]) -> list[str]:
    """Work until SIGTERM or SIGINT, or as long as the request says; the run that is
    under way is carried to its end. Returns the runs that were begun."""
    with handle_shutdown_signals() as signals:
        worker = QueueWorker(request, signals, say)
        worker.work()
        return worker.carried


def due(databases: Collection[str]) -> list[RunRecord]:
    """Return the runs that nobody has taken and that may begin now, the oldest first."""
    found = [
        run
        for run in active_runs().values()
        if (not databases or run.database in databases) and _is_due(run)
    ]
    return sorted(found, key=lambda run: run.id)


def _is_due(run: RunRecord) -> bool:
    if run.carrier or route_settings().launcher != "work":
        return False  # elsewhere the launcher starts it, and duties see that it does
    if run.build != sources.build() and clock.age(run.created_at) < _OTHER_BUILD:
        return False  # a deploy is under way: its own worker comes
    if run.state is RunState.QUEUED:
        return True
    return run.waits_to_begin and (
        run.in_spite or clock.parse_time(run.waiting_until) <= clock.current()
    )
