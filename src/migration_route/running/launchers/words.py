"""What does a process say outside of the record, and does it still live?

A file of its own on this host takes what a supervisor prints: why it could not begin, or
why it died. The open file bears a lock of the operating system, which goes with the last
process that has it open: nobody has to ask for a pid.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from migration_route.masking import masked

_TAIL = 2000


def words_of(run: str) -> Path:
    """Return the file of a run; it is removed when the run ends well."""
    return Path(tempfile.gettempdir()) / f"migration-route-{os.getuid()}-{run}.log"


@contextmanager
def taking_words(run: str) -> Iterator[int]:
    """Give the descriptor of that file, empty and locked, to hand to a new process.

    The file gets its name when the lock is on it: whoever finds it finds it locked.
    """
    descriptor, name = tempfile.mkstemp(prefix="migration-route-", suffix=".new")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        Path(name).replace(words_of(run))
        yield descriptor
    finally:
        os.close(descriptor)


def has_ended(run: str) -> bool:
    """Tell whether the process of a run was started on this host, and is gone."""
    try:
        descriptor = os.open(words_of(run), os.O_RDONLY)
    except OSError:
        return False  # another host's, or not started yet
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def last_words(run: str) -> str:
    """Return the last lines of that file, masked; empty on another host."""
    with suppress(OSError):
        return masked(words_of(run).read_text(errors="replace"))[-_TAIL:]
    return ""


def forget_words(run: str) -> None:
    """Remove the file."""
    words_of(run).unlink(missing_ok=True)
