"""A detached process, with the code that is on disk now; it outlives the web worker."""

from __future__ import annotations

import subprocess
import threading

from migration_route import processes
from migration_route.conf import route_settings
from migration_route.conf.command import command_line
from migration_route.deciding.policy import Permit
from migration_route.errors import LaunchFailed
from migration_route.ledger.records import RunRecord
from migration_route.planning.fingerprint import same_plan
from migration_route.running.launchers.words import taking_words


class ProcessLauncher:
    """Starts the supervisor in a session of its own."""

    def launch(self, permit: Permit, run: RunRecord) -> None:
        """Start it, and return at once. Raises `LaunchFailed`."""
        reap(start(permit, run), run.id)

    def start_again(self, run: RunRecord) -> None:
        """Start it for a run whose process is gone before it began. Raises
        `LaunchFailed`."""
        reap(begin(run.id, "run", run.id), run.id)


def start(permit: Permit, run: RunRecord, *words: str) -> subprocess.Popen[bytes]:
    """Start the supervisor of a run that this permit allows, with these further words."""
    require_fitting(permit, run)
    return begin(run.id, "run", run.id, *words)


def require_fitting(permit: Permit, run: RunRecord) -> None:
    """Raise `LaunchFailed` unless the permit is for the plan of this run."""
    if not same_plan(permit.plan.fingerprint, run.fingerprint):
        raise LaunchFailed("The permit is for another plan than the run.")


def begin(words_of: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the route's own command in a session of its own, with the code that is on
    disk; what it says goes to the file of that name. Raises `LaunchFailed`."""
    command = command_line(route_settings().command)
    with taking_words(words_of) as words:
        try:
            return subprocess.Popen(  # noqa: S603 - the project's command, our own id
                [*command, *arguments],
                env=processes.environment(),
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchFailed(f"The process could not be started: {error}") from error


def reap(process: subprocess.Popen[bytes], name: str) -> None:
    """See to it that a child is no zombie when it ends; nothing else depends on that."""
    threading.Thread(target=process.wait, name=f"reap {name}", daemon=True).start()
