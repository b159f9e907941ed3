"""A detached process, with the code that is on disk now; it outlives the web worker."""

from __future__ import annotations

import subprocess
import threading

from migration_route import processes
from migration_route.deciding.policy import Permit
from migration_route.errors import LaunchFailed
from migration_route.ledger.records import RunRecord
from migration_route.running.launchers.words import taking_words


class ProcessLauncher:
    """Starts the supervisor in a session of its own."""

    def launch(self, permit: Permit, run: RunRecord) -> None:
        """Start it, and return at once. Raises `LaunchFailed`."""
        process = start(permit, run)
        # The child is reaped when it ends; nothing else depends on this thread.
        threading.Thread(target=process.wait, name=f"reap {run.id}", daemon=True).start()


def start(permit: Permit, run: RunRecord) -> subprocess.Popen[bytes]:
    """Start the supervisor of a run that this permit allows."""
    if permit.plan.fingerprint != run.fingerprint:
        raise LaunchFailed("The permit is for another plan than the run.")
    with taking_words(run.id) as words:
        try:
            return subprocess.Popen(  # noqa: S603 - our own command, our own id
                [*processes.command_line(), "run", run.id],
                env=processes.environment(),
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchFailed(
                f"The process of the run could not be started: {error}"
            ) from error
