"""Starts workers and queues for a test, and opens a window in the near future."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness import processes
from tests.harness.deadlines import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.project import Project


class Background:
    """A background process of a project, which runs until it is stopped."""

    def __init__(self, project: Project, *words: str) -> None:
        """Start Python with these arguments in the folder of the project."""
        self.log = project.folder / f"background-{id(self):x}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                cwd=project.folder,
                env=project.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=processes.ends_with_its_parent,
            )

    @property
    def said(self) -> str:
        """The output so far."""
        return self.log.read_text()

    def kill(self) -> None:
        """Kill it with all of its children, as a power failure does."""
        self._all(signal.SIGKILL)
        self.process.wait(10)

    def ask_to_end(self) -> None:
        """Send SIGTERM to this process alone, as stopping a container does."""
        os.kill(self.process.pid, signal.SIGTERM)

    def stop(self) -> None:
        """End the process in any state."""
        if self.process.poll() is None:
            self.kill()

    def _all(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


def worker(project: Project, *words: str) -> Background:
    """Start `manage.py migration_route worker`."""
    return Background(
        project, "manage.py", "migration_route", "worker", "--every", "0.3", *words
    )


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Start Redis on its own socket; yield its URL."""
    socket = folder / "redis.sock"
    process = subprocess.Popen(
        ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", ""],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=processes.ends_with_its_parent,
    )
    try:
        until(socket.exists, seconds=10, what="Redis listens", every=0.02)
        yield str(socket)
    finally:
        process.kill()
        process.wait(10)


def window_in(seconds: float, *, length: float = 3600, **more: Any) -> dict[str, Any]:
    """Return a window that opens in that many seconds, and stays open for that long."""
    opens = datetime.now(UTC) + timedelta(seconds=seconds)
    return {
        "start": f"{opens:%H:%M:%S.%f}",
        "end": f"{opens + timedelta(seconds=length):%H:%M:%S.%f}",
        "timezone": "UTC",
        **more,
    }
