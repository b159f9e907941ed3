"""How is a copy of a database made, and what is seen of a statement on it?

How do a database's own programs make a copy? One pours into another.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.errors import CannotRehearse
from migration_route.core.redaction import redact

_NAME = re.compile(r"migration_route_rehearsal_[0-9a-f]{32}")
BOOKKEEPING = ("django_migrations", "django_content_type", "auth_permission")
"""Tables whose rows `migrate` itself reads: they come along without the data as well."""

Alive = Callable[[], None]
"""Called while a copy is being made; raises where it is to stop."""


def scratch_name(rehearsal: str) -> str:
    """Return the name of the database that is made for a rehearsal."""
    return f"migration_route_rehearsal_{rehearsal}"


def is_scratch_name(name: str) -> bool:
    """Tell whether a database of this name may be dropped, as far as its name goes."""
    return _NAME.fullmatch(name) is not None


def verified(session: Any, verify: Callable[[Any], None] | None) -> Any:
    """Return a new session of a driver; it is closed where `verify` raises."""
    if verify is None:
        return session
    try:
        verify(session)
        if getattr(session, "autocommit", False) is not True:
            session.rollback()  # the question has begun a transaction
    except BaseException:
        session.close()
        raise
    return session


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementEffects:
    """What is new since the last look in the same transaction."""

    locks: tuple[tuple[str, str], ...] | None = None  # table and mode; None: not seen
    rewrites: tuple[str, ...] = ()


class StatementObserver(Protocol):
    """Somebody who looks at what a statement did, through the session that sent it."""

    blind: str  # why it cannot see locks; "" where it can

    def remember(self, connection: BaseDatabaseWrapper) -> None:
        """Note which tables there are before the plan: only those are looked at."""

    def look(self, connection: BaseDatabaseWrapper, sql: str) -> StatementEffects:
        """Look at what the statement did that has just been carried out.

        Sent past Django's cursor: it is no statement of the migration.
        """

    def blocks(self, mode: str) -> tuple[str, ...]:
        """Return who waits for a lock of this mode, in the words of `forecast.Blocked`."""


class Copies(Protocol):
    """How copies of one kind of database are made and removed."""

    def require(self, connection: BaseDatabaseWrapper, *, with_data: bool) -> None:
        """Raise `CannotRehearse` where tools, rights or space are missing, and say what
        to do; nothing has begun then."""

    def settings(self, settings: dict[str, Any], name: str) -> dict[str, Any]:
        """Return the settings of a connection to the copy of that name."""

    def make(
        self, connection: BaseDatabaseWrapper, name: str, *, with_data: bool, alive: Alive
    ) -> None:
        """Make the copy. `connection` holds the lock of the rehearsal: the database is
        made through it, so that it cannot come into being after the lock is free.

        Raises `CannotRehearse`.
        """

    def remove(self, connection: BaseDatabaseWrapper, name: str) -> None:
        """Remove the copy, whoever is connected to it, if it is there."""

    def schema(self, connection: BaseDatabaseWrapper) -> list[str]:
        """Return the schema of a copy as lines that can be compared."""

    def leaves(
        self, sql: str, home: str, connection: BaseDatabaseWrapper | None = None
    ) -> str:
        """Tell what a statement reaches beyond its own database; "" where nothing.

        `home` is the database that the copy was made of: to name it is to leave. With an
        open connection it is read in the mode of its session, else in the usual one.
        """

    def watch_drivers(
        self, look: Callable[[str], None], verify: Callable[[Any], None] | None = None
    ) -> None:
        """Let `look` hear the name, or the file, of every database that this process
        connects to from now on, past Django as well; what it raises prevents that.

        `verify` gets each new session of the driver before whoever wanted it does; the
        session is closed when it raises. A file is known by its path, before it is opened:
        for SQLite it is not called.
        """

    def observer(self) -> StatementObserver:
        """Return somebody who looks at statements."""


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


def pipe(
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
        f"{os.path.basename(tool)} failed: {redact(words.strip())[-_WORDS:]}",  # noqa: PTH119
        hint="The copy is made with the database user of this alias: it must be allowed "
        "to read every table.",
    )
