"""How do a database's own programs make a copy? One pours into another."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from migration_route.errors import CannotRehearse
from migration_route.masking import masked

_PR_SET_PDEATHSIG = 1
_PAUSE = 0.05
_WORDS = 1500


def find_tool(*names: str, of: str) -> str:
    """Return the path of the first of these programs that there is.

    Raises `CannotRehearse` with the package that brings it.
    """
    for name in names:
        if path := shutil.which(name):
            return path
    raise CannotRehearse(
        f"{' or '.join(names)} is not on the PATH of this process.",
        hint=f"Install the client programs of the database ({of}) on this host, or "
        "rehearse from a host that has them.",
    )


def version_of(tool: str) -> str:
    """Return what a program says of its version."""
    answer = subprocess.run(  # noqa: S603 - found by `find_tool`
        [tool, "--version"], capture_output=True, text=True, timeout=20, check=False
    )
    return answer.stdout


def read_from(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return what a program writes. Raises `CannotRehearse` where it fails."""
    answer = subprocess.run(  # noqa: S603 - found by `find_tool`
        list(command),
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if answer.returncode:
        raise _failed(command[0], answer.stderr)
    return answer.stdout


def pour(
    source: Sequence[str],
    into: Sequence[str],
    environment: Mapping[str, str],
    *,
    alive: Callable[[], None],
    head: bytes = b"",
) -> None:
    """Let one program write what the other one reads, after `head`.

    Secrets come by the environment. Both end with this process.
    Raises `CannotRehearse` where one fails, and whatever `alive` raises.
    """
    everything = {**os.environ, **environment}
    with tempfile.TemporaryFile() as source_words, tempfile.TemporaryFile() as into_words:
        reader = _start(into, everything, stdin=subprocess.PIPE, stderr=into_words)
        try:
            if head and reader.stdin:
                reader.stdin.write(head)
                reader.stdin.flush()
            writer = _start(source, everything, stdout=reader.stdin, stderr=source_words)
        except BaseException:
            _end(reader)
            raise
        if reader.stdin:
            reader.stdin.close()
        try:
            while writer.poll() is None or reader.poll() is None:
                alive()
                time.sleep(_PAUSE)
        except BaseException:
            _end(writer)
            _end(reader)
            raise
        # A reader that fails breaks the writer's pipe: it knows why.
        for process, command, words in (
            (reader, into, into_words),
            (writer, source, source_words),
        ):
            if process.returncode:
                words.seek(0)
                raise _failed(command[0], words.read().decode(errors="replace"))


def _start(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    stderr: IO[bytes],
    stdin: int | None = subprocess.DEVNULL,
    stdout: IO[bytes] | int | None = subprocess.DEVNULL,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - found by `find_tool`
        list(command),
        env=dict(environment),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        preexec_fn=_end_with_parent,  # this process has one thread
    )


def _end_with_parent() -> None:
    """Ask the kernel to end this program with the process that started it (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _failed(tool: str, words: str) -> CannotRehearse:
    return CannotRehearse(
        f"{os.path.basename(tool)} failed: {masked(words.strip())[-_WORDS:]}",  # noqa: PTH119
        hint="The copy is made with the database user of this alias: it must be allowed "
        "to read every table.",
    )
