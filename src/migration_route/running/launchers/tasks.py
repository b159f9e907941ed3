"""A process that Django's tasks start: `django.tasks`, or django-tasks before Django 6."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.conf import settings

from migration_route.conf import route_settings
from migration_route.errors import Misconfigured
from migration_route.running.launchers.queued import QueuedLauncher


class TaskLauncher(QueuedLauncher):
    """Puts the run on the queue of a backend of TASKS."""

    @property
    def supports_defer(self) -> bool:
        """Tell what the backend says of `run_after`, which is an aware time."""
        return settings.USE_TZ and bool(_task().get_backend().supports_defer)

    def enqueue(self, run: str, at: datetime | None) -> None:
        """Put it there."""
        task = _task()
        if at is not None:
            task = task.using(run_after=at)
        task.enqueue(run)


def _task() -> Any:
    """Return the task, for the backend and the queue of the settings.

    Imported when it is needed: a task looks at TASKS when it is made.
    """
    try:
        from migration_route.running.launchers.task import carry_run
    except ImportError as error:
        raise Misconfigured(
            "The launcher 'tasks' needs Django 6, or the package django-tasks.",
            hint="pip install 'django-migration-route[tasks]'",
        ) from error
    ours = route_settings()
    return carry_run.using(backend=ours.task_backend, queue_name=ours.task_queue)
