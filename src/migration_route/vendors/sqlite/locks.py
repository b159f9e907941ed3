"""Operating system locks on files beside SQLite databases, which permit one run per
database, and the processes of this host that hold them."""

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
    """An OS lock on a separate file, which the kernel releases when its holder ends.

    The database file itself is never locked: closing any descriptor of it would drop the
    POSIX locks of SQLite (sqlite.org, How To Corrupt, 2.2).
    """

    def __init__(self, database: Path, slot: LockSlot) -> None:
        self._database = database
        self._path = database.with_name(f"{database.name}.route-lock-{slot.value}")
        self._descriptor: int | None = None

    def try_acquire(self) -> bool:
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
            os.close(descriptor)  # its holder removed it after this process opened it

    def _open(self) -> int:
        """Return the descriptor of the lock file.

        A new file gets the permissions and, if root creates it, the owner of the database:
        every user who may write the database may take the lock. Raises `OperationalError`
        if the file cannot be opened or created.
        """
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            with suppress(FileNotFoundError):
                return os.open(self._path, flags)
            try:
                descriptor = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            except FileExistsError:  # another process has just created it
                return os.open(self._path, flags | os.O_CREAT, 0o600)
            _copy_permissions(descriptor, self._database)
        except OSError as error:
            raise OperationalError(f"The lock file cannot be opened: {error}") from error
        return descriptor

    def release(self) -> bool:
        """Release the lock, and remove its file."""
        if self._descriptor is None:
            return False
        was_held = _is_file(self._descriptor, self._path)
        if was_held:
            self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = None
        return was_held

    def is_held(self) -> bool:
        """Return whether the path still names the file that was locked."""
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


def _copy_permissions(descriptor: int, database: Path) -> None:
    """Set the permissions of the database on a new file, as far as this user may."""
    with suppress(OSError):
        status = database.stat()
        if os.geteuid() == 0:
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode) & 0o666)


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def _is_file(descriptor: int, path: Path) -> bool:
    """Return whether the path still names the file that was opened."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


class SQLiteSessions:
    """Processes, identified by the lock that they hold beside the file."""

    def describe(self, pid: int) -> Session | None:
        """Return a process; what it does in the file is not visible to others."""
        if not _signal(pid, 0):
            return None
        return Session(
            pid=pid,
            user="",
            application=f"process {pid} of this host",
            query="",
            since="",
            state="",
            is_busy=True,  # unknown
        )

    def cancel_statement(self, pid: int) -> bool:
        """Interrupt the process: the statement of a worker fails with "interrupted"."""
        return _signal(pid, signal.SIGINT)

    def end(self, pid: int) -> bool:
        """Kill the process; the next one to open the file rolls its transaction back."""
        return _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return number == 0  # it exists, and belongs to another user
    return True
