"""How does somebody who is not its supervisor bring a run to an end? By its sessions in
the database, from anywhere, and by its processes, on their own host.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress

from migration_route import processes
from migration_route.errors import OrphanBackend
from migration_route.ledger.reading import find_run
from migration_route.ledger.records import RunRecord
from migration_route.running.recovery import lost_runs
from migration_route.running.recovery.backend import Backend
from migration_route.vendors.interface import Slot

_SESSION = 10.0  # seconds for a session to go
_SUPERVISOR = 4.0  # seconds for a supervisor to say how its run ended
_PAUSE = 0.1


def end_orphan(run: RunRecord) -> RunRecord:
    """End the session that a lost run left, and return the run as that leaves it.

    Raises `OrphanBackend` where the session does not go.
    """
    _end_session(run, Slot.WORKER)
    return _concluded(run.id, within=_SUPERVISOR)


def end_by_force(run: RunRecord) -> RunRecord:
    """Kill the worker of a run and end its session; then its supervisor too, if that
    does not say how the run ended. Return the run as that leaves it.

    Raises `OrphanBackend` where a session does not go.
    """
    _kill(run, run.worker_pid)
    _end_session(run, Slot.WORKER)
    found = _concluded(run.id, within=_SUPERVISOR)
    if found.is_active:
        _kill(run, run.supervisor_pid)
        _end_session(run, Slot.SUPERVISOR)
        found = lost_runs.conclude_if_gone(found)
    return found


def _kill(run: RunRecord, pid: int | None) -> None:
    is_here = run.host == socket.gethostname()
    if pid is not None and is_here and processes.is_at_work(pid, run.id):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _end_session(run: RunRecord, slot: Slot) -> None:
    backend = Backend(run.database, slot)
    try:
        if not backend.end(within=_SESSION):
            found = backend.describe()
            raise OrphanBackend(
                f"The session of run {run.id} was told to end, and is still there.",
                run=run.id,
                **(found.to_dict() if found else {}),
            )
    finally:
        backend.close()


def _concluded(run: str, *, within: float) -> RunRecord:
    """Return the run when it has ended, or as it is after so many seconds."""
    deadline = time.monotonic() + within
    while True:
        found = lost_runs.look_after(find_run(run))
        if not found.is_active or time.monotonic() > deadline:
            return found
        time.sleep(_PAUSE)
