"""The task for Django's tasks framework. The worker of a queue imports it by its path."""

from __future__ import annotations

import django

from migration_route.conf import route_settings
from migration_route.execution.launchers.task_queue import execute_run

if django.VERSION >= (6, 0):
    from django.tasks import task
else:
    from django_tasks import task  # type: ignore[no-redef]


@task(backend=route_settings().task_backend, queue_name=route_settings().task_queue)
def execute_run_task(run: str) -> None:
    execute_run(run)
