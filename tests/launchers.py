"""Launchers that record the calls they receive."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from migration_route.execution.launchers.task_queue import QueueLauncher


class Remembering:
    """Starts nothing, and supports a restart."""

    started: ClassVar[list[str]] = []

    def launch(self, permit, run):
        """Record the run."""
        self.started.append(run.id)

    def start_again(self, run):
        """Record the restart."""
        self.started.append(run.id)


class Queue(QueueLauncher):
    """A queue without a worker."""

    tasks: ClassVar[list[tuple[str, datetime | None]]] = []
    supports_defer = True

    def enqueue(self, run, at):
        """Store the task."""
        self.tasks.append((run, at))


class BrokenQueue(QueueLauncher):
    """A queue whose broker is unreachable."""

    def enqueue(self, run, at):
        """Fail as a driver does."""
        raise ConnectionRefusedError(run)
