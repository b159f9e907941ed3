"""The launchers of task queues, such as Django's tasks (`django.tasks`, or django-tasks
before Django 6).

The queue carries only the id of a run. Its task starts the same process as every launcher,
so that the process of the queue, which may be older than the code on disk, never runs a
migration. A task that is delivered twice starts the run once.
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
from migration_route.core.errors import (
    InvalidState,
    LaunchFailed,
    Misconfigured,
    RouteError,
)
from migration_route.core.redaction import redact
from migration_route.execution.launchers import fail_unstarted
from migration_route.execution.launchers.process import (
    claim_and_spawn,
    reap,
    require_same_plan,
)
from migration_route.execution.preflight import schedule_of_run
from migration_route.ledger.records import RunRecord
from migration_route.policy.decision import Allowed
from migration_route.policy.schedule import OpensLater

logger = logging.getLogger("migration_route.execution")


class QueueLauncher(ABC):
    """Puts a run on a queue: a subclass implements `enqueue`."""

    is_patient = True

    @property
    def supports_defer(self) -> bool:
        """Whether the queue itself can delay a task; if not, the process that the task
        starts waits."""
        return False

    @abstractmethod
    def enqueue(self, run: str, at: datetime | None) -> None:
        """Put the task `execute_run(run)` on the queue, not before `at` if set. An
        exception makes the run fail, because nothing would execute it."""

    def launch(self, permit: Allowed, run: RunRecord) -> None:
        """Put it on the queue. Raises `LaunchFailed`."""
        require_same_plan(permit, run)
        self.start_again(run)

    def start_again(self, run: RunRecord) -> None:
        """Put a run whose process has died on the queue. Raises `LaunchFailed`."""
        until = (
            run.waiting_until if run.waits_to_begin and not run.override_schedule else ""
        )
        try:
            at = clock.parse_time(until) if until and self.supports_defer else None
            self.enqueue(run.id, at)
        except RouteError:
            raise
        except Exception as error:  # a broker may raise anything
            logger.exception("Could not enqueue run %s.", run.id)
            raise LaunchFailed(
                f"Could not enqueue the run: {type(error).__name__}."
            ) from error


def execute_run(run: str) -> None:
    """Start the process of a run and wait for its end: the body of a queue's task.

    It does not wait for a run that is scheduled for later. If the run is claimed or has
    started, nothing happens: the task was delivered twice.
    """
    try:
        claimed, process = claim_and_spawn(run)
    except InvalidState as error:
        logger.info("Nothing to do: %s", error)
        return
    except LaunchFailed as error:
        with suppress(InvalidState):  # cancelled, or started by another task
            fail_unstarted(run, error)  # no other task will start it
        raise
    if isinstance(schedule_of_run(claimed), OpensLater):
        reap(process, run)
    else:
        process.wait()


class TaskLauncher(QueueLauncher):
    """Puts the run on the queue of a backend of TASKS."""

    @property
    def supports_defer(self) -> bool:
        """Whether the backend supports `run_after`, which is an aware time."""
        return settings.USE_TZ and bool(_task().get_backend().supports_defer)

    def problem(self) -> str:
        """Return why no task can execute a run; empty if one can."""
        backend = _task().get_backend()
        if _is_backend(backend, "dummy"):
            return (
                f"The TASKS backend {route_settings().task_backend!r} is a DummyBackend, "
                "which stores tasks and never runs them."
            )
        return ""

    def advice(self) -> str:
        """Return a warning about the backend; empty if there is none."""
        if _is_backend(_task().get_backend(), "immediate"):
            return (
                f"The TASKS backend {route_settings().task_backend!r} is an "
                "ImmediateBackend, which runs a task in the request that enqueues it: "
                "each request that starts a run waits until the run ends."
            )
        return ""

    def enqueue(self, run: str, at: datetime | None) -> None:
        """Put it on the queue. Raises `LaunchFailed` if a backend that runs tasks at once
        reports a failure."""
        task = _task()
        if at is not None:
            task = task.using(run_after=at)
        result = task.enqueue(run)
        if str(result.status) == "FAILED":
            errors = [subprocesses.error_in(error.traceback) for error in result.errors]
            raise LaunchFailed(redact(errors[-1] if errors else "The task failed."))


def _is_backend(backend: object, name: str) -> bool:
    """Return whether a backend is the one of this name that Django provides, or derived
    from it."""
    modules = {f"{package}.backends.{name}" for package in ("django.tasks", "django_tasks")}
    return any(kind.__module__ in modules for kind in type(backend).__mro__)


def _task() -> Any:
    """Return the task, for the backend and the queue of the settings.

    Imported when needed: creating a task reads TASKS. Raises `Misconfigured` if there is no
    such backend or queue.
    """
    ours = route_settings()
    try:
        from migration_route.execution.launchers.task import execute_run_task
    except ImportError as error:
        raise Misconfigured(
            "The launcher 'tasks' needs Django 6 or the package django-tasks.",
            hint="pip install 'django-migration-route[tasks]'",
        ) from error
    except Exception as error:  # each backend may raise anything
        raise _backend_error(error) from error
    try:
        return execute_run_task.using(backend=ours.task_backend, queue_name=ours.task_queue)
    except Exception as error:  # as above
        raise _backend_error(error) from error


def _backend_error(error: Exception) -> Misconfigured:
    ours = route_settings()
    return Misconfigured(
        f"The launcher 'tasks' cannot use the backend {ours.task_backend!r} with the queue "
        f"{ours.task_queue!r}: {type(error).__name__}: {error}",
        hint="Set TASK_BACKEND to a key of TASKS, and TASK_QUEUE to one of its QUEUES.",
    )
