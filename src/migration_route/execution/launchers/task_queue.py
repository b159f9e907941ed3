"""A process that Django's tasks start: `django.tasks`, or django-tasks before Django 6.

A process that a task queue starts, on another machine.

The queue carries the id of a run and nothing else. Its task starts the same process as
every launcher does, so that a queue's own process, which may be older than the code on
disk, never runs a migration. A task that is delivered twice starts it once.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from contextlib import suppress
from datetime import datetime
from typing import Any

from django.conf import settings

from migration_route.conf import route_settings
from migration_route.core import clock, subprocesses
from migration_route.core.enums import RunState
from migration_route.core.errors import (
    InvalidState,
    LaunchFailed,
    Misconfigured,
    RouteError,
)
from migration_route.core.redaction import redact
from migration_route.execution.launchers.process import (
    claim_and_spawn,
    reap,
    require_same_plan,
)
from migration_route.execution.preflight import schedule_of_run
from migration_route.ledger import runs
from migration_route.ledger.evidence import StepError
from migration_route.ledger.records import RunRecord
from migration_route.policy.decision import Allowed
from migration_route.policy.schedule import OpensLater

logger = logging.getLogger("migration_route.execution")


class QueueLauncher(ABC):
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

    def launch(self, permit: Allowed, run: RunRecord) -> None:
        """Put it on the queue. Raises `LaunchFailed`."""
        require_same_plan(permit, run)
        self.start_again(run)

    def start_again(self, run: RunRecord) -> None:
        """Put a run on the queue whose process is gone. Raises `LaunchFailed`."""
        until = run.waiting_until if run.waits_to_begin and not run.in_spite else ""
        try:
            at = clock.parse_time(until) if until and self.supports_defer else None
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
    with suppress(InvalidState):  # it was cancelled, or another task has started it
        unbegun = {RunState.QUEUED, RunState.WAITING}
        runs.move(run, to=RunState.FAILED, expected=unbegun, change=change)


def execute_run(run: str) -> None:
    """What the task of a queue does: start the process of a run, and wait for its end.

    It does not wait for one that has to wait itself. Where the run is another's already,
    or has begun, nothing happens: the task was delivered twice.
    """
    try:
        taken, process = claim_and_spawn(run)
    except InvalidState as error:
        logger.info("Nothing to do: %s", error)
        return
    except LaunchFailed as error:
        _conclude(run, error)
        raise
    if isinstance(schedule_of_run(taken), OpensLater):
        reap(process, run)
    else:
        process.wait()


class TaskLauncher(QueueLauncher):
    """Puts the run on the queue of a backend of TASKS."""

    @property
    def supports_defer(self) -> bool:
        """Tell what the backend says of `run_after`, which is an aware time."""
        return settings.USE_TZ and bool(_task().get_backend().supports_defer)

    def problem(self) -> str:
        """Return why no task would carry a run; empty if one would."""
        backend = _task().get_backend()
        if _is_of(backend, "dummy"):
            return (
                f"The backend {route_settings().task_backend!r} of TASKS only keeps tasks, "
                "and never runs one (DummyBackend)."
            )
        return ""

    def advice(self) -> str:
        """Return what a project should know of its backend; empty if there is nothing."""
        if _is_of(_task().get_backend(), "immediate"):
            return (
                f"The backend {route_settings().task_backend!r} of TASKS runs a task in "
                "the request that asks for it (ImmediateBackend): each request that starts "
                "a run waits for its end."
            )
        return ""

    def enqueue(self, run: str, at: datetime | None) -> None:
        """Put it there. A backend that runs the task at once tells how that ended."""
        task = _task()
        if at is not None:
            task = task.using(run_after=at)
        result = task.enqueue(run)
        if str(result.status) == "FAILED":
            errors = [subprocesses.error_in(error.traceback) for error in result.errors]
            raise LaunchFailed(redact(errors[-1] if errors else "The task failed."))


def _is_of(backend: object, name: str) -> bool:
    """Tell whether a backend is one of those that Django brings, or derived from it."""
    modules = {f"{package}.backends.{name}" for package in ("django.tasks", "django_tasks")}
    return any(kind.__module__ in modules for kind in type(backend).__mro__)


def _task() -> Any:
    """Return the task, for the backend and the queue of the settings.

    Imported when it is needed: a task looks at TASKS when it is made. Raises
    `Misconfigured` where there is no such backend or queue.
    """
    ours = route_settings()
    try:
        from migration_route.execution.launchers.task import execute_run_task
    except ImportError as error:
        raise Misconfigured(
            "The launcher 'tasks' needs Django 6, or the package django-tasks.",
            hint="pip install 'django-migration-route[tasks]'",
        ) from error
    except Exception as error:  # TASKS, and each backend, has errors of its own
        raise _misfit(error) from error
    try:
        return execute_run_task.using(backend=ours.task_backend, queue_name=ours.task_queue)
    except Exception as error:  # as above
        raise _misfit(error) from error


def _misfit(error: Exception) -> Misconfigured:
    ours = route_settings()
    return Misconfigured(
        f"The launcher 'tasks' cannot use the backend {ours.task_backend!r} with the queue "
        f"{ours.task_queue!r}: {type(error).__name__}: {error}",
        hint="TASK_BACKEND names a key of TASKS, TASK_QUEUE one of its QUEUES.",
    )
