"""Starts the process of a run as a fork of the command that applies it.

`manage.py migration_route apply --yes` has imported the project with the code that is on
disk. It forks before it connects to a database; the fork waits, and becomes the process of
the run instead of a second interpreter that imports the project again. Without a run, it
ends with the command.

A fork is made only where it equals a new process: no thread is running, no database is
connected, and the setting COMMAND does not name another command line.
"""

from __future__ import annotations

import io
import json
import os
import random
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from django.db import connections

from migration_route.conf import route_settings
from migration_route.core.errors import LaunchFailed, RouteError
from migration_route.core.subprocesses import name_run_process
from migration_route.vendors import vendor_of

_CHUNK = 65536

Main = Callable[[list[str]], int]
"""Runs the verb with these arguments in this process; returns its exit code."""


class ForkedProcess:
    """A process that was started from a fork; as much of `subprocess.Popen` as is used."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def wait(self) -> int:
        if self.returncode is None:
            _, status = os.waitpid(self.pid, 0)
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


class _Fork:
    """A fork that waits for its request."""

    def __init__(self, main: Main) -> None:
        self._socket, theirs = socket.socketpair()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._socket.close()
            _serve(theirs, main)
        theirs.close()

    def start(self, request: dict[str, Any], log: int) -> None:
        """Let it run a verb, with its output to the descriptor. Raises `OSError`."""
        data = json.dumps(request).encode()
        sent = socket.send_fds(self._socket, [data], [log])
        self._socket.sendall(data[sent:])
        self._socket.close()

    def end(self) -> None:
        self._socket.close()
        os.waitpid(self.pid, 0)


_waiting: list[_Fork] = []


@contextmanager
def prepared_fork(main: Main) -> Iterator[None]:
    """Fork, where possible, and end the fork with this block unless a run has used it."""
    if _is_possible():
        _waiting.append(_Fork(main))
    try:
        yield
    finally:
        while _waiting:
            _waiting.pop().end()


def has_fork() -> bool:
    """Return whether a fork of this process waits for a run."""
    return bool(_waiting)


def take_fork(
    run: str, arguments: tuple[str, ...], environment: dict[str, str], log: int
) -> ForkedProcess:
    """Start a verb for a run in the fork of this process, with its output to the
    descriptor. Raises `LaunchFailed` if the fork has ended."""
    fork = _waiting.pop()
    try:
        fork.start({"run": run, "arguments": arguments, "environment": environment}, log)
    except OSError as error:
        fork.end()
        raise LaunchFailed(f"The process of the run has ended: {error}") from error
    return ForkedProcess(fork.pid)


def _is_possible() -> bool:
    is_connected = any(
        connection.connection is not None
        for connection in connections.all(initialized_only=True)
    )
    has_own_command = bool(route_settings().command)
    return threading.active_count() == 1 and not is_connected and not has_own_command


def _serve(requests: socket.socket, main: Main) -> NoReturn:
    """Wait for a request and run it; none arrives if the command ends without a run. The
    stack of the parent is never returned to."""
    code = 0
    try:
        os.setsid()
        _import_ahead()
        data, descriptors, _, _ = socket.recv_fds(requests, _CHUNK, 1)
        while chunk := requests.recv(_CHUNK):
            data += chunk
        requests.close()
        if data:
            request = json.loads(data)
            _take_over(descriptors[0], request["environment"])
            name_run_process(request["run"])
            code = main(request["arguments"])
    except BaseException:  # noqa: BLE001 - printed; nothing of the parent may run here
        code = 1
        traceback.print_exc()
    finally:
        with suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _import_ahead() -> None:
    """Import what every run needs while the command plans. Nothing connects."""
    from migration_route.execution.worker import worker  # noqa: F401

    for alias in connections:
        with suppress(RouteError):  # reported by the run
            vendor_of(alias)


def _take_over(log: int, environment: dict[str, str]) -> None:
    """Become what a new process would be: its output, its environment, its signals."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(os.fdopen(number, "wb", 0), write_through=True, errors="replace")
        for number in (1, 2)
    )
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    random.seed()
