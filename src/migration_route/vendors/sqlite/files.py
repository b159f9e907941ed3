"""The file of an SQLite database, its identity, and the lock on a file beside it, which
permits one run per database."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.base import (
    DatabaseIdentity,
    LockSlot,
    Session,
    Sessions,
    TargetLock,
)

_IN_MEMORY = {"", ":memory:"}


def name_of(connection: BaseDatabaseWrapper) -> str:
    """Return the name that the backend passes to the driver; OPTIONS override NAME."""
    # Of a copy: the wrapper stores the parameters when it makes them.
    return str(connection.copy().get_connection_params()["database"])


def file_of(connection: BaseDatabaseWrapper) -> Path:
    return path_of(name_of(connection))


def file_of_settings(settings: Mapping[str, Any]) -> Path:
    name = (settings.get("OPTIONS") or {}).get("database") or settings["NAME"]
    return path_of(str(name))


def path_of(name: str) -> Path:
    """Return the real path of a file by a plain name or a file: URI (sqlite.org, URI)."""
    if name.startswith("file:"):
        name = name.removeprefix("file:").partition("#")[0].partition("?")[0]
        if name.startswith("//"):
            name = f"/{name.removeprefix('//').partition('/')[2]}"
        name = unquote(name)
    # Two names of one file must share one lock.
    return Path(name).resolve()


def is_in_memory(name: str) -> bool:
    """Return whether a name means a database that no other process can open."""
    if not name.startswith("file:"):
        return name in _IN_MEMORY
    path, _, query = name.removeprefix("file:").partition("#")[0].partition("?")
    return unquote(path) in _IN_MEMORY or "mode=memory" in query.split("&")


def identity_of_session(session: Any) -> DatabaseIdentity:
    """Return the identity of a session's file: hard and symbolic links are one file."""
    path = opened_file(session)
    if path is None or not path.exists():
        return DatabaseIdentity(server="", name="")
    return DatabaseIdentity(server="files", name=device_and_inode(path), label=str(path))


def opened_file(session: Any) -> Path | None:
    """Return the file of a session; None for a database in memory."""
    rows = session.execute("PRAGMA database_list").fetchall()
    name = next((str(row[2] or "") for row in rows if row[1] == "main"), "")
    return Path(name) if name else None


def attached_files(session: Any) -> list[str]:
    """Return the files that a session has attached in addition to its own."""
    rows = session.execute("PRAGMA database_list").fetchall()
    return [str(row[2]) for row in rows if row[1] not in {"main", "temp"} and row[2]]


def device_and_inode(path: Path) -> str:
    """Return the name of a file in `identity_of_session`."""
    status = path.stat()
    return f"{status.st_dev}:{status.st_ino}"


class SQLiteLock(TargetLock):
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


class SQLiteSessions(Sessions):
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
