"""The launchers "process" and "inline", and the log files of the processes they start.

"process" starts a detached process, with the code that is on disk now, that outlives the
web worker. "inline" starts the same process and waits for it: for tests, and where no
process may outlive a request.

A log file on this host takes what a supervisor prints: why it could not start, or why it
died. The open file has a lock of the operating system, which ends with the last process
that has the file open, so no pid is needed to find out whether the process has ended.

The files are in a directory of mode 0700 below the temporary directory. Its name cannot be
predicted, and only a directory that belongs to this user is used: other users of the host
can neither read, replace nor reserve a file. Every file is opened relative to the
descriptor of the verified directory.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import socket
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from migration_route.conf import route_settings
from migration_route.conf.command import command_line
from migration_route.core import subprocesses
from migration_route.core.errors import LaunchFailed
from migration_route.core.redaction import redact
from migration_route.execution.launchers.forked import has_fork, take_fork
from migration_route.ledger import claims
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import same_plan
from migration_route.policy.decision import Allowed

logger = logging.getLogger("migration_route.execution")

_TAIL = 2000
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def log_path(run: str) -> Path | None:
    """Return the path of the log file of a run; None if this host has none. The file is
    removed when the run ends well."""
    with _folders() as folders:
        for folder, descriptor in folders:
            with suppress(OSError):
                os.stat(_name(run), dir_fd=descriptor, follow_symlinks=False)
                return folder / _name(run)
    return None


@contextmanager
def open_log(run: str) -> Iterator[int]:
    """Yield the descriptor of the log file, empty and locked, for a new process.

    The file gets its name after it is locked, so it is never visible unlocked. Raises
    `LaunchFailed` if the file cannot be written.
    """
    try:
        descriptor = _locked_file(run)
    except OSError as error:
        raise LaunchFailed(
            "Cannot create the log file of the new process: the temporary directory is not "
            f"writable ({error}).",
            hint="Set TMPDIR to a directory that this process can write to.",
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def has_ended(run: str) -> bool:
    """Return whether the process of a run was started on this host and has ended."""
    descriptor = _open_existing(run)
    if descriptor is None:
        return False  # on another host, or not started yet
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def with_log_tail(message: str, run: str) -> str:
    """Return a message with the end of the log, masked: the error of the process first,
    then the message and the output."""
    output = _log_tail(run).strip()
    if not output:
        return message
    error = subprocesses.error_in(output)
    rest = "" if output == error else f"\n\nIts output:\n{output}"
    return f"{error.rstrip('.')}. {message}{rest}"


def _log_tail(run: str) -> str:
    """Return the end of the log, masked; empty on another host."""
    descriptor = _open_existing(run)
    if descriptor is None:
        return ""
    with os.fdopen(descriptor, errors="replace") as file, suppress(OSError):
        return redact(file.read())[-_TAIL:]
    return ""


def remove_log(run: str) -> None:
    """Remove the log file, if possible: nothing depends on it."""
    with _folders() as folders:
        for folder, descriptor in folders:
            try:
                os.unlink(_name(run), dir_fd=descriptor)
            except FileNotFoundError:
                continue
            except OSError:
                logger.warning("Cannot remove %s.", folder / _name(run), exc_info=True)


def _name(run: str) -> str:
    return f"{run}.log"


def _locked_file(run: str) -> int:
    """Return the descriptor of a new file. Raises `OSError`."""
    with _folder_to_write() as folder:
        temporary = f"{run}.{secrets.token_hex(8)}.new"
        descriptor = os.open(temporary, _CREATE, 0o600, dir_fd=folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.replace(temporary, _name(run), src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise
        return descriptor


def _open_existing(run: str) -> int | None:
    with _folders() as folders:
        for _, folder in folders:
            with suppress(OSError):
                descriptor = os.open(_name(run), _OPEN, dir_fd=folder)
                if stat.S_ISREG(os.fstat(descriptor).st_mode):
                    return descriptor
                os.close(descriptor)
    return None


@contextmanager
def _folder_to_write() -> Iterator[int]:
    """Yield the descriptor of the directory for new files. Raises `OSError`."""
    with _folders() as folders:
        if folders:
            yield folders[0][1]
            return
    folder = tempfile.mkdtemp(prefix=_prefix())  # of mode 0700
    descriptor = os.open(folder, _OPEN_FOLDER)
    try:
        if not _is_private(descriptor):
            raise PermissionError(
                f"the new directory {folder} is accessible to other users"
            )
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _folders() -> Iterator[list[tuple[Path, int]]]:
    """Yield the directories of this user, each with its open descriptor; none if there is
    no temporary directory or it cannot be read."""
    found: list[tuple[Path, int]] = []
    try:
        for path in _candidates():
            with suppress(OSError):  # another user's, a file, or a link
                descriptor = os.open(path, _OPEN_FOLDER)
                if _is_private(descriptor):
                    found.append((path, descriptor))
                else:
                    os.close(descriptor)
        yield found
    finally:
        for _, descriptor in found:
            os.close(descriptor)


def _candidates() -> list[Path]:
    try:
        folder = Path(tempfile.gettempdir())
        return sorted(folder.glob(f"{_prefix()}*"))
    except OSError:
        return []


def _prefix() -> str:
    return f"migration-route-{os.geteuid()}-"


def _is_private(descriptor: int) -> bool:
    """Return whether a directory belongs to this user and is closed to all others."""
    found = os.fstat(descriptor)
    return found.st_uid == os.geteuid() and not stat.S_IMODE(found.st_mode) & 0o077


class ProcessLauncher:
    """Starts the supervisor in a session of its own."""

    def launch(self, permit: Allowed, run: RunRecord) -> None:
        """Start it and return at once. Raises `LaunchFailed`."""
        reap(start(permit, run), run.id)

    def start_again(self, run: RunRecord) -> None:
        """Start it for a run whose process died before the run started. Raises
        `LaunchFailed`."""
        reap(spawn(run.id, "run", run.id), run.id)


class Process(Protocol):
    """A process that was started."""

    def wait(self) -> int:
        """Return its exit code when it has ended."""


def start(permit: Allowed, run: RunRecord, *arguments: str) -> Process:
    """Start the supervisor of a run that this permit allows, with further arguments; in the
    fork of this process, if it has one. Raises `LaunchFailed`."""
    require_same_plan(permit, run)
    words = ("run", run.id, *arguments)
    if has_fork():
        with open_log(run.id) as log:
            return take_fork(run.id, words, subprocesses.environment(), log)
    return spawn(run.id, *words)


def require_same_plan(permit: Allowed, run: RunRecord) -> None:
    """Raise `LaunchFailed` unless the permit is for the plan of this run."""
    if not same_plan(permit.plan.fingerprint, run.fingerprint):
        raise LaunchFailed("The permit is for a different plan than the run.")


def spawn(name: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the command of this package in a session of its own, with the code that is on
    disk; its output goes to the log file of that name. Raises `LaunchFailed`."""
    command = command_line(route_settings().command)
    with open_log(name) as log:
        try:
            return subprocess.Popen(  # noqa: S603 - the project's command, our own id
                [*command, *arguments],
                env=subprocesses.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except OSError as error:
            raise LaunchFailed(f"The process could not be started: {error}") from error


def reap(process: Process, name: str) -> None:
    """Wait for a child in a thread, so that it does not become a zombie."""
    threading.Thread(target=process.wait, name=f"reap {name}", daemon=True).start()


class InlineLauncher:
    """Starts the same supervisor and waits until it has ended."""

    can_wait = False  # a request would wait until the window opens

    def launch(self, permit: Allowed, run: RunRecord) -> None:
        """Start it and wait. Raises `LaunchFailed`."""
        # A run that is approved outside its window waits in the table, not in this process.
        start(permit, run, "--release-if-waiting").wait()


def claim_and_spawn(run: str, *arguments: str) -> tuple[RunRecord, subprocess.Popen[bytes]]:
    """Claim a run and start its process with these further arguments; of several callers,
    one succeeds.

    Raises `InvalidState` when another process has claimed it or it has started,
    `UnknownRun`, `LaunchFailed`.
    """
    claim = claims.new_claim_token()
    taken = claims.claim(run, claim, host=socket.gethostname(), pid=None)
    try:
        return taken, spawn(run, "run", run, f"--claim={claim}", *arguments)
    except LaunchFailed:
        claims.release_claim(run, claim)
        raise
