"""Finds what a run should have removed and did not."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tests.harness.database import Database

PATIENCE = 5.0  # seconds that a session or a process may take to end


def leftovers(database: Database, folder: Path, *, ours: Collection[int]) -> list[str]:
    """List what is still present after a short wait: sessions and locks in the database,
    files beside it, and processes working in this folder other than `ours` and their
    children."""
    looks: dict[str, Callable[[], set[str]]] = {
        "session": database.sessions,
        "advisory lock": database.locks,
        "file beside the database": database.beside,
        "process": lambda: _processes(folder, ours),
    }
    found: list[str] = []
    for kind, look in looks.items():
        found += [f"{kind}: {thing}" for thing in sorted(_in_the_end(look))]
    return found


def words_left(run: str, place: Path | None = None) -> list[str]:
    """List what a run left in the folder of temporary files, this host's or another's."""
    place = place or Path(tempfile.gettempdir())
    return [
        f"temporary file: {path.name}"
        for path in sorted(place.glob(f"*migration-route-{os.getuid()}-*{run}*"))
    ]


def _in_the_end(look: Callable[[], set[str]]) -> set[str]:
    deadline = time.monotonic() + PATIENCE
    while (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _processes(folder: Path, ours: Collection[int]) -> set[str]:
    known = set(ours)
    for pid in ours:
        known |= processes.children(pid)
    strangers = processes.living_in(folder) - known
    # A child of a server, such as the process of a run, does not belong to the server.
    strangers |= {
        pid
        for pid in processes.living_in(folder)
        if " migration_route run " in processes.command_line(pid)
    }
    zombies = {f"{pid} (ended, not reaped)" for pid in processes.unreaped(known)}
    return zombies | {f"{pid} {processes.command_line(pid)}" for pid in strangers}
