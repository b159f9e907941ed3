"""Starts real web servers for the end-to-end tests."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.harness import processes
from tests.harness.deadlines import until

if TYPE_CHECKING:
    from tests.harness.project import Project


class ServerKind(StrEnum):
    """The supported kinds of servers."""

    SYNC = "sync"  # gunicorn, processes with one request at a time
    THREADS = "gthread"  # gunicorn, processes with four threads each
    ASGI = "uvicorn"  # an event loop


# Default number of processes per server; a single process with one request at a time would
# often wait for itself.
WORKERS = {ServerKind.SYNC: 2, ServerKind.THREADS: 1, ServerKind.ASGI: 1}


def command(
    kind: ServerKind,
    port: int,
    *,
    workers: int,
    timeout: int,
    max_requests: int = 0,
    worker_class: str = "",
) -> list[str]:
    """Return the command line that starts a server of this kind.

    `timeout` is how many seconds gunicorn allows a worker without a sign of life, and after
    `max_requests` it replaces the worker; 0: never. `worker_class` replaces that of the
    kind.
    """
    gunicorn = ["gunicorn", "market.wsgi", "--bind", f"127.0.0.1:{port}"]
    gunicorn += ["--workers", str(workers), "--timeout", str(timeout)]
    gunicorn += ["--max-requests", str(max_requests)]
    match kind:
        case _ if worker_class:
            arguments = [*gunicorn, "--worker-class", worker_class]
        case ServerKind.SYNC:
            arguments = [*gunicorn, "--worker-class", "sync"]
        case ServerKind.THREADS:
            arguments = [*gunicorn, "--worker-class", "gthread", "--threads", "4"]
        case ServerKind.ASGI:
            arguments = ["uvicorn", "market.asgi:application", "--host", "127.0.0.1"]
            arguments += ["--port", str(port), "--workers", str(workers)]
    return [sys.executable, "-m", *arguments]


class WebServer:
    """A web server of a project, in its own process group."""

    def __init__(
        self,
        project: Project,
        kind: ServerKind,
        *,
        workers: int | None = None,
        timeout: int = 5,
        max_requests: int = 0,
        worker_class: str = "",
    ) -> None:
        self.project = project
        self.kind = kind
        self.workers = workers or WORKERS[kind]
        self.timeout = timeout
        self.max_requests = max_requests
        self.worker_class = worker_class
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.log = project.folder / f"server-{id(self):x}.log"

    def start(self) -> None:
        """Start, and return when the server responds; retry on another port when ours is
        taken."""
        for attempt in (1, 2, 3):
            port = _free_port()
            self.url = f"http://127.0.0.1:{port}"
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(
                    self._command(port),
                    cwd=self.project.folder,
                    env=self.project.environment | self._longest_wait(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=processes.ends_with_its_parent,
                )
            if self._comes_up():
                return
            self.stop()
            if attempt == 3 or "in use" not in self.log.read_text():
                raise AssertionError(f"{self.kind} does not start\n{self.log.read_text()}")

    def _longest_wait(self) -> dict[str, str]:
        """Return the variable from which the project takes `MAX_REQUEST_WAIT`: gunicorn
        kills a sync worker whose request takes longer than its timeout."""
        if self.kind is not ServerKind.SYNC or self.worker_class:
            return {}
        return {"MAX_REQUEST_WAIT": f"{min(20_000, self.timeout * 600)}ms"}

    def _command(self, port: int) -> list[str]:
        return command(
            self.kind,
            port,
            workers=self.workers,
            timeout=self.timeout,
            max_requests=self.max_requests,
            worker_class=self.worker_class,
        )

    def stop(self) -> None:
        """End the server with everything in its process group."""
        if self.process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
                break
        self.process = None

    def worker_pids(self) -> frozenset[int]:
        """Return the pids of the processes that handle requests."""
        assert self.process is not None
        if self.kind is ServerKind.ASGI and self.workers == 1:
            return frozenset({self.process.pid})
        return frozenset(
            pid
            for pid in processes.children(self.process.pid)
            if "resource_tracker" not in processes.command_line(pid)
        )

    def answering_pid(self) -> int:
        """Ask over HTTP which process answers."""
        pid: int = httpx.get(f"{self.url}/pid/", timeout=10).json()["pid"]
        return pid

    def _comes_up(self) -> bool:
        process = self.process
        assert process is not None

        def answers_or_has_ended() -> bool:
            return process.poll() is not None or self._answers()

        until(
            answers_or_has_ended,
            seconds=90,
            what=f"{self.kind} answers\n{self.log.read_text()}",
            every=0.05,
        )
        return process.poll() is None

    def _answers(self) -> bool:
        try:
            answer = httpx.get(f"{self.url}/pid/", timeout=10)
        except httpx.TransportError:
            return False
        if answer.status_code != 200:
            raise AssertionError(f"{answer.text}\n{self.log.read_text()}")
        return Path(answer.json()["folder"]) == self.project.folder


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
