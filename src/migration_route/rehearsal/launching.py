"""Where does the process of a rehearsal come from? Detached, with the code on disk."""

from __future__ import annotations

from migration_route.conf import route_settings
from migration_route.ledger.rehearsal_records import RehearsalRecord
from migration_route.running.launchers.process import begin, reap


def launch(record: RehearsalRecord) -> None:
    """Start it, and return at once; with the launcher "inline", when it has ended.

    Raises `LaunchFailed`.
    """
    arguments = ["rehearse-carry", record.id]
    arguments += ["--and-back"] if record.and_back else []
    process = begin(record.id, *arguments)
    if route_settings().launcher == "inline":
        process.wait()
    else:
        reap(process, record.id)
