"""Starts the process of a rehearsal, detached and with the code that is on disk, and
carries out the rehearsal in that process and its children.
"""

from __future__ import annotations

from django.db import connections

from migration_route.conf import route_settings
from migration_route.execution.launchers.process import reap, spawn
from migration_route.execution.posix_signals import handle_shutdown_signals
from migration_route.execution.rehearsal.in_place import InPlaceRehearsalRunner
from migration_route.execution.rehearsal.runner import RehearsalRunner
from migration_route.execution.supervisor.child import Child
from migration_route.ledger import rehearsals
from migration_route.ledger.rehearsals import RehearsalRecord


def run_rehearsal(rehearsal: str, *, round_trip: bool) -> RehearsalRecord:
    """Carry out a queued rehearsal in this process and its children; return it as it ended.
    Raises `InvalidState` when it is not queued, `UnknownRehearsal`."""
    with handle_shutdown_signals() as signals:
        # Forked before any connection is opened: one worker per direction.
        children = [Child() for _ in range(2 if round_trip else 1)]
        try:
            record = rehearsals.find_rehearsal(rehearsal)
            conductor = InPlaceRehearsalRunner if record.in_place else RehearsalRunner
            return conductor(record, children, signals).conduct()
        finally:
            for child in children:
                child.kill()
            connections.close_all()


def launch_rehearsal(record: RehearsalRecord) -> None:
    """Start the process and return at once; with the launcher "inline", when it has ended.

    Raises `LaunchFailed`.
    """
    arguments = ["run-rehearsal", record.id]
    arguments += ["--round-trip"] if record.round_trip else []
    process = spawn(record.id, *arguments)
    if route_settings().launcher == "inline":
        process.wait()
    else:
        reap(process, record.id)
