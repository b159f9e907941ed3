"""A process that Django's tasks start: `django.tasks`, or django-tasks before Django 6."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings

from migration_route import processes
from migration_route.conf import route_settings
from migration_route.errors import LaunchFailed, Misconfigured
from migration_route.masking import masked
from migration_route.running.launchers.queued import QueuedLauncher


class TaskLauncher(QueuedLauncher):
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
            errors = [processes.error_in(error.traceback) for error in result.errors]
            raise LaunchFailed(masked(errors[-1] if errors else "The task failed."))


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
        from migration_route.running.launchers.task import carry_run
    except ImportError as error:
        raise Misconfigured(
            "The launcher 'tasks' needs Django 6, or the package django-tasks.",
            hint="pip install 'django-migration-route[tasks]'",
        ) from error
    except Exception as error:  # TASKS, and each backend, has errors of its own
        raise _misfit(error) from error
    try:
        return carry_run.using(backend=ours.task_backend, queue_name=ours.task_queue)
    except Exception as error:  # as above
        raise _misfit(error) from error


def _misfit(error: Exception) -> Misconfigured:
    ours = route_settings()
    return Misconfigured(
        f"The launcher 'tasks' cannot use the backend {ours.task_backend!r} with the queue "
        f"{ours.task_queue!r}: {type(error).__name__}: {error}",
        hint="TASK_BACKEND names a key of TASKS, TASK_QUEUE one of its QUEUES.",
    )
