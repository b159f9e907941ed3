"""The interfaces for rehearsals: on a copy, which is proved to be one and whose statements
are observed, and in place, where the plan is rolled back. And the pipe between a database's
own client programs."""

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import IO, Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.errors import CannotRehearse
from migration_route.core.redaction import redact
from migration_route.vendors import identity_of
from migration_route.vendors.base import DatabaseIdentity

_NAME = re.compile(r"migration_route_rehearsal_[0-9a-f]{32}")
_OVERRULED = (
    "OPTIONS (database, db, dbname, init_command), a service file, an option file or the "
    "backend overrides NAME. Name the database in NAME only."
)
TABLES_READ_BY_MIGRATE = ("django_migrations", "django_content_type", "auth_permission")
"""Tables whose rows `migrate` itself reads: they are copied even without the data."""

CheckAlive = Callable[[], None]
"""Called while a copy is made; raises an error to stop that."""


def scratch_name(rehearsal: str) -> str:
    """Return the name of the database that is created for a rehearsal."""
    return f"migration_route_rehearsal_{rehearsal}"


def is_scratch_name(name: str) -> bool:
    """Return whether the name of a database permits dropping it."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Separation:
    """An original and its copy, verified to be two databases."""

    original: DatabaseIdentity
    copy: DatabaseIdentity


@contextmanager
def connection_with_settings(
    connection: BaseDatabaseWrapper, settings: dict[str, Any]
) -> Iterator[BaseDatabaseWrapper]:
    """Yield a copy of a connection with other settings; close it afterwards."""
    other = connection.copy()
    other.settings_dict = {**connection.settings_dict, **settings}
    try:
        yield other
    finally:
        other.close()


def require_separate(
    original: BaseDatabaseWrapper, copy: BaseDatabaseWrapper
) -> Separation:
    """Return the identities of two databases.

    The original is queried twice, in one session, so that a restart of its server cannot
    make one server look like two. Raises `CannotRehearse` if they are the same or if one is
    unknown, and `django.db.Error` if one does not answer.
    """
    first, other = identity_of(original), identity_of(copy)
    if not first.is_known or not other.is_known or identity_of(original) != first:
        raise CannotRehearse(
            "The server does not report which database a connection uses, so the copy "
            "cannot be distinguished from the original. Nothing was changed.",
            hint="Name the database in the settings of this alias, and connect directly to "
            "the server.",
        )
    if first == other:
        raise CannotRehearse(
            f"The copy and the original are the same database, {first.label!r}. "
            "Nothing was changed.",
            hint=_OVERRULED,
        )
    return Separation(original=first, copy=other)


def require_copy(
    original: BaseDatabaseWrapper, copy: BaseDatabaseWrapper, *, name: str
) -> Separation:
    """Return the identities of a database and of its copy on the same server.

    `name` is the server's name of the copy. Raises what `require_separate` raises, and
    `CannotRehearse` if the connection leads to any other database.
    """
    pair = require_separate(original, copy)
    if pair.copy.name != name or pair.copy.server != pair.original.server:
        raise CannotRehearse(
            f"The connection to the copy {name!r} uses the database "
            f"{pair.copy.label!r} instead. Nothing was changed there.",
            hint=_OVERRULED,
        )
    return pair


def require_removable(connection: BaseDatabaseWrapper, name: str) -> None:
    """Raise `CannotRehearse` unless a database of this name can only be a copy of the
    database of `connection`, by its name and by what the server reports of `connection`."""
    if not is_scratch_name(name):
        raise CannotRehearse(f"{name!r} is not a rehearsal database.")
    original = identity_of(connection)
    if not original.is_known:
        raise CannotRehearse(
            f"The server does not report which database the connection "
            f"{connection.alias!r} uses. The copy {name!r} was not removed.",
            hint="Name the database in the settings of this alias.",
        )
    if original.label == name or original.name == name:
        raise CannotRehearse(
            f"The connection {connection.alias!r} uses the database {name!r} itself. "
            "It was not removed.",
            hint="Point the alias to the database that was copied.",
        )


def verify_session(session: Any, verify: Callable[[Any], None] | None) -> Any:
    """Return a new driver session; close it if `verify` raises."""
    if verify is None:
        return session
    try:
        verify(session)
        if getattr(session, "autocommit", False) is not True:
            session.rollback()  # the query has started a transaction
    except BaseException:
        session.close()
        raise
    return session


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementEffects:
    """Effects since the previous observation in the same transaction."""

    locks: tuple[tuple[str, str], ...] | None = None  # table and mode; None: not visible
    rewrites: tuple[str, ...] = ()


class StatementObserver(Protocol):
    """Observes what a statement did, through the session that sent it."""

    blind: str = ""  # why locks are not visible; "" if they are

    def remember(self, connection: BaseDatabaseWrapper) -> None:
        """Record the tables that exist before the plan: only those are observed."""
        del connection

    def look(self, connection: BaseDatabaseWrapper, sql: str) -> StatementEffects:
        """Return the effects of the statement that has just been executed.

        Bypasses Django's cursor: this is not a statement of the migration.
        """

    def blocks(self, mode: str) -> tuple[str, ...]:
        """Return what a lock of this mode blocks, as values of `Blocked`; not called where
        locks are not visible."""
        del mode
        return ()


class Copies(Protocol):
    """Makes and removes copies of one kind of database."""

    name_options: tuple[str, ...] = ()  # the options that override NAME

    def require(self, connection: BaseDatabaseWrapper, *, with_data: bool) -> None:
        """Raise `CannotRehearse`, with a hint, if tools, privileges or space are missing.
        Nothing has started then."""

    def settings(self, settings: dict[str, Any], name: str) -> dict[str, Any]:
        """Return the settings of a connection to the copy of that name, by default another
        database of the same server; NAME overrides a service file and an option file."""
        options = {**settings.get("OPTIONS", {})}
        for key in self.name_options:
            options.pop(key, None)
        return {**settings, "NAME": name, "OPTIONS": options}

    def make(
        self,
        connection: BaseDatabaseWrapper,
        name: str,
        *,
        with_data: bool,
        alive: CheckAlive,
    ) -> None:
        """Make the copy.

        `connection` holds the lock of the rehearsal. The database is created through it, so
        that it cannot be created after the lock is free. Raises `CannotRehearse`.
        """

    def remove(self, connection: BaseDatabaseWrapper, name: str) -> None:
        """Remove the copy if it exists, even while other sessions are connected to it."""

    def schema(self, connection: BaseDatabaseWrapper) -> list[str]:
        """Return the schema of a copy as lines that can be compared."""

    def leaves(
        self, sql: str, home: str, connection: BaseDatabaseWrapper | None = None
    ) -> str:
        """Return what a statement affects beyond its own database; "" if nothing.

        `home` is the database that was copied: a statement that names it leaves the copy.
        With an open connection, the statement is read in the mode of its session, otherwise
        in the default one.
        """

    def watch_drivers(
        self, look: Callable[[str], None], verify: Callable[[Any], None] | None = None
    ) -> None:
        """Call `look` with the name, or the file, of every database before this process
        connects to it, from now on, including connections that bypass Django. An exception
        of `look` prevents the connection.

        `verify` receives each new driver session before the caller does; the session is
        closed if it raises. A file is known by its path before it is opened: for SQLite,
        `verify` is not called.
        """

    def observer(self) -> StatementObserver: ...


class InPlaceFailure(Enum):
    """Why a statement of a rehearsal in place failed."""

    OUT_OF_TIME = auto()
    LOCK_TAKEN = auto()  # by others, for longer than the limit
    NO_TRANSACTION = auto()  # or no such savepoint
    OTHER = auto()


class InPlaceSupport:
    """Applies a plan in one transaction that is never committed; by default, it is
    unsupported.

    Statements sent here bypass Django's cursor: they are not statements of the migration.
    """

    def __init__(self, reason: str = "") -> None:
        """`reason`: why it is unsupported; then every other method raises that."""
        self.reason = reason

    def require(self, connection: BaseDatabaseWrapper) -> None:
        """Raise `CannotRehearse`, with a hint, if a privilege is missing."""
        raise NotImplementedError(self.reason)

    def prepare(self, connection: BaseDatabaseWrapper) -> None:
        """Prevent an open session, which is in no transaction, from writing in any
        transaction but the one that starts with `bar`."""
        raise NotImplementedError(self.reason)

    def bar(self, connection: BaseDatabaseWrapper) -> None:
        """Let this transaction write, and make the server refuse every form of commit.
        These are its first statements."""
        raise NotImplementedError(self.reason)

    def is_commit_prevented(self, connection: BaseDatabaseWrapper) -> bool:
        """Return whether the session is still in the transaction of `bar`."""
        raise NotImplementedError(self.reason)

    def bound(
        self, connection: BaseDatabaseWrapper, *, lock_seconds: float, seconds: float
    ) -> None:
        """Limit what follows: its waits for locks, and its total time."""
        raise NotImplementedError(self.reason)

    def settle(self, connection: BaseDatabaseWrapper) -> None:
        """Run the checks that the database defers to the end of a transaction, and raise
        what a commit would raise."""
        raise NotImplementedError(self.reason)

    def trouble(self, error: BaseException) -> InPlaceFailure:
        """Return the kind of failure of a statement."""
        raise NotImplementedError(self.reason)

    def text_of(self, connection: BaseDatabaseWrapper, query: Any) -> str:
        """Return a query as text, in whatever form the driver accepts it."""
        raise NotImplementedError(self.reason)

    def leaves(self, connection: BaseDatabaseWrapper, sql: str) -> str:
        """Return why a text must not be sent: it would end the transaction, outlive it, or
        lift its limits; "" if it may be sent. The text is read in the mode of the session.
        """
        raise NotImplementedError(self.reason)

    def watch_driver(self, look: Callable[[Any], None]) -> None:
        """Call `look` with each query before the driver sends it, from now on.

        Includes queries that bypass Django, and commits. An exception of `look` prevents
        the query.
        """
        raise NotImplementedError(self.reason)


_PR_SET_PDEATHSIG = 1
_PAUSE = 0.05
_WORDS = 1500


def find_tool(*names: str, of: str) -> str:
    """Return the path of the first of these programs that is installed.

    Raises `CannotRehearse` with the package that provides it.
    """
    for name in names:
        if path := shutil.which(name):
            return path
    raise CannotRehearse(
        f"{' or '.join(names)} is not on the PATH of this process.",
        hint=f"Install the client programs of the database ({of}) on this host, or "
        "rehearse on a host that has them.",
    )


_SPACE_FACTOR = 1.2  # a copy has no free space in its tables, but is logged
_LOCAL_HOSTS = frozenset({"", "localhost", "127.0.0.1", "::1"})


def require_room(connection: BaseDatabaseWrapper, size: int, folder: str | None) -> None:
    """Refuse a copy that does not fit, where the server's disk is on this host and its
    folder is known."""
    host = str(connection.settings_dict["HOST"])
    if folder is None or not (host in _LOCAL_HOSTS or host.startswith("/")):
        return
    try:
        free = shutil.disk_usage(Path(folder)).free
    except OSError:
        return
    if size * _SPACE_FACTOR > free:
        raise CannotRehearse(
            f"A copy needs about {size / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free.",
            hint='Rehearse the schema only, or set "rehearsal_alias" to another database.',
        )


def version_of(tool: str) -> str:
    result = subprocess.run(  # noqa: S603 - found by `find_tool`
        [tool, "--version"], capture_output=True, text=True, timeout=20, check=False
    )
    return result.stdout


def read_from(command: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the output of a program. Raises `CannotRehearse` if it fails."""
    result = subprocess.run(  # noqa: S603 - found by `find_tool`
        list(command),
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise _failed(command[0], result.stderr)
    return result.stdout


def pipe(
    source: Sequence[str],
    into: Sequence[str],
    environment: Mapping[str, str],
    *,
    alive: Callable[[], None],
    head: bytes = b"",
) -> None:
    """Write `head`, then the output of one program, to the input of another.

    Secrets are passed in the environment. Both programs end with this process. Raises
    `CannotRehearse` if one fails, and whatever `alive` raises.
    """
    whole_environment = {**os.environ, **environment}
    with tempfile.TemporaryFile() as source_errors, tempfile.TemporaryFile() as into_errors:
        reader = _start(into, whole_environment, stdin=subprocess.PIPE, stderr=into_errors)
        try:
            if head and reader.stdin:
                reader.stdin.write(head)
                reader.stdin.flush()
            writer = _start(
                source, whole_environment, stdout=reader.stdin, stderr=source_errors
            )
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
        # A failing reader breaks the writer's pipe: its own error is the cause.
        for process, command, errors in (
            (reader, into, into_errors),
            (writer, source, source_errors),
        ):
            if process.returncode:
                errors.seek(0)
                raise _failed(command[0], errors.read().decode(errors="replace"))


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
    """Make the kernel kill this program when its parent process ends (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _failed(tool: str, errors: str) -> CannotRehearse:
    return CannotRehearse(
        f"{os.path.basename(tool)} failed: {redact(errors.strip())[-_WORDS:]}",  # noqa: PTH119
        hint="Let the database user of this alias, which makes the copy, read every table.",
    )
