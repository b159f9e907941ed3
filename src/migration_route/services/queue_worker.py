"""The loop of `manage.py migration_route worker`: it starts queued runs and periodic jobs.

The loop itself applies no migrations: it starts a process for each run, with the code that
is on disk at that time. Of several workers, one claims a run. A run that waits for its
scheduled start occupies no worker. Without such a process, a periodic job that a read can
do is done by the next read.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
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


def _refresh_runs() -> None:
    for run in active_runs().values():
        refresh(run)


_JOB_INTERVAL = 2.0  # seconds
_JOBS: Mapping[str, Callable[[], object]] = {
    "refresh runs whose process is gone, or that wait for approval": _refresh_runs,
    "deliver notifications that are due": deliver_due,
}


class Scheduler:
    """Runs the periodic jobs of one process."""

    def __init__(self) -> None:
        self._done_at: float | None = None

    def run_due_tasks(self) -> bool:
        """Run the jobs if they are due; return whether all of them succeeded.

        A failed job is logged and does not prevent the others.
        """
        now, all_succeeded = time.monotonic(), True
        if self._done_at is not None and now - self._done_at < _JOB_INTERVAL:
            return True
        self._done_at = now
        for what, do in _JOBS.items():
            try:
                do()
            except Exception:  # no error of a job may end the worker
                logger.exception("Periodic job failed: %s.", what)
                all_succeeded = False
        return all_succeeded


_POLL = 0.2  # seconds between two checks of the process of a run
_OTHER_BUILD = timedelta(seconds=30)  # how long a run is left to workers of its build


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueWorkerOptions:
    every: float = 1.0  # seconds between two checks of the queue
    most_runs: int | None = None  # exits after so many runs; None: no limit
    once: bool = False  # exits when the queue is empty
    databases: Collection[str] = ()  # aliases; empty: all databases
    alive: Path | None = None  # a file that each successful check touches


class QueueWorker:
    def __init__(
        self,
        request: QueueWorkerOptions,
        signals: ShutdownSignals,
        say: Callable[[str], object],
    ) -> None:
        self._request = request
        self._signals = signals
        self._say = say
        self._scheduler = Scheduler()
        self._run = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._forwarded = 0
        self.carried: list[str] = []

    def work(self) -> None:
        """Start and watch runs until a signal or a limit ends the loop."""
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
            all_succeeded = self._scheduler.run_due_tasks()
            if self._process is None and not self._signals.name:
                self._start_next()
        except (DatabaseFailure, DatabaseUnavailable):
            logger.warning("The ledger is unavailable.", exc_info=True)
            return
        if all_succeeded and self._request.alive is not None:
            self._request.alive.touch()

    def _start_next(self) -> None:
        for run in claimable_runs(self._request.databases):
            try:
                _, process = claim_and_spawn(run.id, "--release-if-waiting")
            except InvalidState:
                continue  # another worker was faster, or it was cancelled
            except LaunchFailed:
                logger.exception("Starting the process of run %s failed.", run.id)
                continue
            self._run, self._process = run.id, process
            self.carried.append(run.id)
            self._say(f"run {run.id} on {run.database}: started")
            return

    def _watch(self) -> None:
        """Wait briefly for the current process; forward a second stop signal to it."""
        process = self._process
        assert process is not None  # noqa: S101 - only called while there is one
        if self._signals.count > max(self._forwarded, 1):
            self._forwarded = self._signals.count
            process.terminate()  # it stops before its next step
        try:
            process.wait(_POLL)
        except subprocess.TimeoutExpired:
            return
        self._process = None
        run = reaper.reap(find_run(self._run))
        self._say(f"run {run.id} on {run.database}: {run.state}")


def run_worker(request: QueueWorkerOptions, say: Callable[[str], object]) -> list[str]:
    """Run a worker until SIGTERM or SIGINT, or until a limit of the request is reached.

    The current run is completed. Returns the ids of the started runs.
    """
    with handle_shutdown_signals() as signals:
        worker = QueueWorker(request, signals, say)
        worker.work()
        return worker.carried


def claimable_runs(databases: Collection[str]) -> list[RunRecord]:
    """Return the unclaimed runs that may start now, oldest first."""
    due_runs = [
        run
        for run in active_runs().values()
        if (not databases or run.database in databases) and _is_due(run)
    ]
    return sorted(due_runs, key=lambda run: run.id)


def _is_due(run: RunRecord) -> bool:
    if run.claimed_by or route_settings().launcher != "worker":
        return False  # another launcher starts it, and the periodic job checks that
    if run.build != sources.build() and clock.age(run.created_at) < _OTHER_BUILD:
        return False  # during a deploy, a worker of the run's build starts it
    if run.state is RunState.QUEUED:
        return True
    return run.waits_to_begin and (
        run.override_schedule or clock.parse_time(run.waiting_until) <= clock.database_now()
    )
