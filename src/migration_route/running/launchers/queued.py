"""A process that a task queue starts, on another machine.

The queue carries the id of a run and nothing else. Its task starts the same process as
every launcher does, so that a queue's own process, which may be older than the code on
disk, never runs a migration. A task that is delivered twice starts it once.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from contextlib import suppress
from datetime import datetime

from migration_route import clock
from migration_route.deciding.policy import Permit
from migration_route.deciding.windows import Later
from migration_route.errors import LaunchFailed, NotInThisState, RouteError
from migration_route.ledger import runs
from migration_route.ledger.records import RunRecord, StepError
from migration_route.running.launchers.process import reap, require_fitting
from migration_route.running.launchers.taking import start_taken
from migration_route.running.openings import opening_of
from migration_route.vocabulary import RunState

logger = logging.getLogger("migration_route.running")


class QueuedLauncher(ABC):
    """Puts a run on a queue: a subclass says how."""

    is_patient = True

    @property
    def supports_defer(self) -> bool:
        """Tell whether the queue itself keeps a task until its time has come; if not,
        the process that the task starts waits."""
        return False

    @abstractmethod
    def enqueue(self, run: str, at: datetime | None) -> None:
        """Put the task `start_run(run)` on the queue, not before a time if there is one.
        What it raises makes the run fail: nothing would carry it."""

    def launch(self, permit: Permit, run: RunRecord) -> None:
        """Put it on the queue. Raises `LaunchFailed`."""
        require_fitting(permit, run)
        self.start_again(run)

    def start_again(self, run: RunRecord) -> None:
        """Put a run on the queue whose process is gone. Raises `LaunchFailed`."""
        until = run.waiting_until if run.waits_to_begin and not run.in_spite else ""
        try:
            at = clock.parsed(until) if until and self.supports_defer else None
            self.enqueue(run.id, at)
        except RouteError:
            raise
        except Exception as error:  # a broker's errors are its own
            logger.exception("Run %s could not be put on its queue.", run.id)
            raise LaunchFailed(
                f"The run could not be put on its queue: {type(error).__name__}."
            ) from error


def _conclude(run: str, error: LaunchFailed) -> None:
    """End a run whose task could not start a process: no other task will come for it."""
    why = StepError(type="LaunchFailed", message=str(error))
    change = runs.Change(outcome=error.code, error=why)
    with suppress(NotInThisState):  # it was cancelled, or another task has started it
        unbegun = {RunState.QUEUED, RunState.WAITING}
        runs.move(run, to=RunState.FAILED, expected=unbegun, change=change)


def start_run(run: str) -> None:
    """What the task of a queue does: start the process of a run, and wait for its end.

    It does not wait for one that has to wait itself. Where the run is another's already,
    or has begun, nothing happens: the task was delivered twice.
    """
    try:
        taken, process = start_taken(run)
    except NotInThisState as error:
        logger.info("Nothing to do: %s", error)
        return
    except LaunchFailed as error:
        _conclude(run, error)
        raise
    if isinstance(opening_of(taken), Later):
        reap(process, run)
    else:
        process.wait()
