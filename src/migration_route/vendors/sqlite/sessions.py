"""Who is at work in an SQLite file? Processes of this host, and no server's sessions."""

from __future__ import annotations

import os
import signal

from migration_route.vendors.interface import Session


class SQLiteSessions:
    """Processes, which are found by the lock that they hold beside the file."""

    are_processes = True

    def describe(self, pid: int) -> Session | None:
        """Return a process; what it does in the file is not known to anybody else."""
        if not _signal(pid, 0):
            return None
        return Session(
            pid=pid,
            user="",
            application=f"process {pid} of this host",
            query="",
            since="",
            state="",
            is_busy=True,  # nobody can tell
        )

    def cancel_statement(self, pid: int) -> bool:
        """Interrupt the process: a worker lets its statement fail with "interrupted"."""
        return _signal(pid, signal.SIGINT)

    def end(self, pid: int) -> bool:
        """End the process; the next one to open the file rolls its transaction back."""
        return _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return number == 0  # it is there, and somebody else's
    return True
