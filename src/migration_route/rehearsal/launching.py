"""Where does the process of a rehearsal come from? Detached, with the code on disk."""

from __future__ import annotations

import subprocess
import threading

from migration_route import processes
from migration_route.conf import route_settings
from migration_route.errors import LaunchFailed
from migration_route.ledger.rehearsals import RehearsalRecord
from migration_route.running.launchers.words import taking_words


def launch(record: RehearsalRecord) -> None:
    """Start it, and return at once; with the launcher "inline", when it has ended.

    Raises `LaunchFailed`.
    """
    command = [*processes.command_line(), "rehearse-carry", record.id]
    command += ["--and-back"] if record.and_back else []
    with taking_words(record.id) as words:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own command, our own id
                command,
                env=processes.environment(),
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchFailed(
                f"The process of the rehearsal could not be started: {error}"
            ) from error
    if route_settings().launcher == "inline":
        process.wait()
        return
    # The child is reaped when it ends; nothing else depends on this thread.
    name = f"reap {record.id}"
    threading.Thread(target=process.wait, name=name, daemon=True).start()
