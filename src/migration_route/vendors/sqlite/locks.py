"""One run per database: a lock of the operating system on a file beside it.

Who is at work in an SQLite file? Processes of this host, and no server's sessions.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from contextlib import suppress
from pathlib import Path

from django.db import OperationalError

from migration_route.vendors.base import LockSlot, Session


class SQLiteLock:
    """An OS lock on a file of its own, dropped by the kernel with its holder.

    The database file itself is never locked by hand: closing any descriptor of it
    would drop the POSIX locks of SQLite (sqlite.org, How To Corrupt, 2.2).
    """

    def __init__(self, database: Path, slot: LockSlot) -> None:
        self._database = database
        self._path = database.with_name(f"{database.name}.route-lock-{slot.value}")
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock now, or return False at once."""
        if self._descriptor is not None:
            return True
        while True:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            if _is_file(descriptor, self._path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
                self._descriptor = descriptor
                return True
            os.close(descriptor)  # its holder removed it while we were opening it

    def _open(self) -> int:
        """Return the descriptor of the file, new ones with the permissions and, made by
        root, the owner of the database: whoever may write that may take the lock.

        Raises `OperationalError` where the file cannot be opened or made.
        """
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with suppress(FileNotFoundError):
                return os.open(self._path, flags)
            try:
                descriptor = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:  # another process has made it in this moment
                return os.open(self._path, flags | os.O_CREAT, 0o600)
            _resemble(descriptor, self._database)
        except OSError as error:
            raise OperationalError(f"The lock file cannot be opened: {error}") from error
        return descriptor

    def release(self) -> bool:
        """Give the lock back, and take its file away."""
        if self._descriptor is None:
            return False
        held = _is_file(self._descriptor, self._path)
        if held:
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = None
        return held

    def is_held(self) -> bool:
        """Tell whether the file is still the one that was locked."""
        return self._descriptor is not None and _is_file(self._descriptor, self._path)

    def holder(self) -> int | None:
        """Return the pid of the process of this host that holds the lock."""
        try:
            with self._path.open("rb") as file:
                if not _is_locked(file.fileno()):
                    return None
                return int(file.read() or 0) or None
        except (OSError, ValueError):
            return None


def _resemble(descriptor: int, database: Path) -> None:
    """Give a new file the permissions of the database, as far as this user may."""
    with suppress(OSError):
        found = database.stat()
        if os.geteuid() == 0:
            os.fchown(descriptor, found.st_uid, found.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(found.st_mode) & 0o666)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _is_file(descriptor: int, path: Path) -> bool:
    """Tell whether the path still names the file that was opened."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


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
