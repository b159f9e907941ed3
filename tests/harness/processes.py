"""Finds and ends the processes that a test started."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.deadlines import until

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator


def ends_with_its_parent() -> None:
    """Called in a new process: make it receive SIGINT when the test process dies."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGINT)


def children(pid: int) -> frozenset[int]:
    """Return the pids whose parent is this process."""
    return frozenset(
        child for child, parent, state in _family() if parent == pid and state != "Z"
    )


def unreaped(parents: Collection[int]) -> frozenset[int]:
    """Return the pids of ended processes that these parents have not waited for."""
    return frozenset(
        child for child, parent, state in _family() if parent in parents and state == "Z"
    )


def _family() -> Iterator[tuple[int, int, str]]:
    """Yield all processes: pid, the parent's pid, state."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            facts = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        yield int(entry.name), int(facts[1]), facts[0]


def command_line(pid: int) -> str:
    """Return the command line of a process; empty when the process has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def state_of(pid: int) -> str:
    """Return the state letter of a process (proc(5)); empty when the process has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[0]


def living_in(folder: Path) -> frozenset[int]:
    """Return the pids whose working directory is this folder or below it."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            place = (entry / "cwd").readlink()
        except OSError:
            continue
        if place == folder or folder in place.parents:
            found.add(int(entry.name))
    return frozenset(found - {os.getpid()})


def end_all_in(folder: Path, *, but: Collection[int] = ()) -> None:
    """End every process that works in this folder, except for these and their children: it
    belongs to a finished test."""
    kept = set(but).union(*map(children, but))
    for pid in living_in(folder) - kept:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(
        lambda: not living_in(folder) - kept,
        seconds=10,
        what=f"processes in {folder} have ended",
        every=0.02,
    )
