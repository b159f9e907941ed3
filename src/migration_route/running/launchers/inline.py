"""A process that the caller waits for: for tests, and where none may outlive a request."""

from __future__ import annotations

from migration_route.deciding.policy import Permit
from migration_route.ledger.records import RunRecord
from migration_route.running.launchers.process import start


class InlineLauncher:
    """Starts the same supervisor, and waits until it has ended."""

    can_wait = False  # a request would stand until the window opens

    def launch(self, permit: Permit, run: RunRecord) -> None:
        """Start it and wait. Raises `LaunchFailed`."""
        # One that is approved outside of its window waits in the table, not in here.
        start(permit, run, "--hand-back").wait()
