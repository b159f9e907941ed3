"""Starts a Redis server for one test."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.harness import databases, processes
from tests.harness.deadlines import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """Yield the URL of an empty Redis server; skip the test where there is none, and fail
    it where `REQUIRE_DATABASES` names redis."""
    program = shutil.which("redis-server")
    if program is None:
        if "redis" in databases.required():
            pytest.fail("required: there is no redis-server on this machine")
        pytest.skip("there is no redis-server on this machine")
    port = _free_port()
    log = folder / f"redis-{port}.log"
    with log.open("wb") as words:
        process = subprocess.Popen(
            [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=words,
            stderr=words,
            preexec_fn=processes.ends_with_its_parent,
        )
    try:
        until(
            lambda: process.poll() is not None or _answers(port),
            seconds=20,
            what="Redis answers",
            every=0.05,
        )
        assert process.poll() is None, log.read_text()
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
