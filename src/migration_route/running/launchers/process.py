"""A detached process, with the code that is on disk now; it outlives the web worker."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from migration_route import processes
from migration_route.deciding.policy import Permit
from migration_route.errors import LaunchFailed
from migration_route.ledger.records import RunRecord
from migration_route.masking import masked

_TAIL = 2000


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
    with words_of(run.id).open("wb") as words:
        os.fchmod(words.fileno(), 0o600)
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


def words_of(run: str) -> Path:
    """Return the file that takes what a supervisor says outside of the record: why it
    could not begin, or why it died. It is removed when the run ends well."""
    return Path(tempfile.gettempdir()) / f"migration-route-{os.getuid()}-{run}.log"


def last_words(run: str) -> str:
    """Return the last lines of that file, masked; empty on another host."""
    with suppress(OSError):
        return masked(words_of(run).read_text(errors="replace")[-_TAIL:])
    return ""


def forget_words(run: str) -> None:
    """Remove the file."""
    words_of(run).unlink(missing_ok=True)
