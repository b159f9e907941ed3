"""Launchers that only remember what was asked of them."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

from migration_route.execution.launchers.task_queue import QueueLauncher


class Remembering:
    """Starts nothing, and can start again."""

    started: ClassVar[list[str]] = []

    def launch(self, permit, run):
        """Remember the run."""
        self.started.append(run.id)

    def start_again(self, run):
        """Remember the run once more."""
        self.started.append(run.id)


class Queue(QueueLauncher):
    """A queue that nobody reads."""

    tasks: ClassVar[list[tuple[str, datetime | None]]] = []
    supports_defer = True

    def enqueue(self, run, at):
        """Keep the task."""
        self.tasks.append((run, at))


class BrokenQueue(QueueLauncher):
    """A queue whose broker is away."""

    def enqueue(self, run, at):
        """Fail as a driver does."""
        raise ConnectionRefusedError(run)
