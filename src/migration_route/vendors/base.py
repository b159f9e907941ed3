"""The interfaces that every vendor implements, with defaults, and their values. Contains no
SQL.

A vendor's class inherits from an interface. A method whose body is only a docstring is
implemented by every vendor; any other body is the default.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from migration_route.core.redaction import clipped
from migration_route.core.values import HealthSettings, HealthSignal, Impact
from migration_route.vendors import fetch_rows
from migration_route.vendors.base_forecast import Forecaster


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidIndex:
    """An invalid index left by a concurrent build: it costs, and no query uses it."""

    name: str
    table: str
    quoted: str  # the name as SQL, with its schema


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceBehind:
    """The sequence of the recorder's ids, whose next id is already taken."""

    next_id: int
    last_id: int
    remedy: str  # the statement that fixes it


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogProblems:
    invalid_indexes: tuple[InvalidIndex, ...] = ()
    sequence_behind: SequenceBehind | None = None


NO_PROBLEMS = CatalogProblems()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseIdentity:
    """A database, as its server identifies it, never as the settings name it.

    `OPTIONS`, service files, option files, initial commands and backends override `NAME`.
    Code that drops, dumps or restores compares identities first.
    """

    server: str  # unique among servers; "" if unknown
    name: str  # unique among the databases of a server; "" if unknown
    label: str = field(default="", compare=False)  # the name that users see

    @property
    def is_known(self) -> bool:
        """Whether this identity can be compared."""
        return bool(self.server and self.name)


class LockSlot(IntEnum):
    """Which of a run's two processes holds a lock.

    The worker holds its own lock on its own connection, so that a backend orphaned in
    mid-statement keeps the target locked until it is gone.
    """

    SUPERVISOR = 1
    WORKER = 2
    REHEARSAL = 3  # of this database on a copy: one at a time


class TargetLock(Protocol):
    """A lock that permits one run per database. It is released when its holder ends."""

    def try_acquire(self) -> bool:
        """Acquire the lock, or return False at once. Never waits in the database."""

    def release(self) -> bool:
        """Release the lock; return False if it was no longer held."""

    def is_held(self) -> bool:
        """Return whether the lock is still held; False too if its session has ended."""

    def holder(self) -> int | None:
        """Return the pid of the session that holds the lock; None if it is free.

        On SQLite, it is the pid of a process on this host.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session of the database, as other sessions see it."""

    pid: int
    user: str
    application: str  # the name that the client set, or its origin
    query: str  # the current statement, or the last one
    since: str  # when that statement started, ISO 8601 in UTC; "" if unknown
    state: str  # in the database's own terms
    is_busy: bool  # a statement is running

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are stored and reported."""
        fields = asdict(self)
        del fields["is_busy"]
        return fields


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementProgress:
    """How far a statement is, as the database reports it."""

    done: int
    total: int | None
    unit: str  # "blocks", "rows"
    phase: str  # in the database's own words


class Sessions(Protocol):
    """Inspects other sessions and ends them."""

    def progress(self, pid: int) -> StatementProgress | None:
        """Return how far the session's current statement is; None if unknown."""
        del pid
        return None

    def describe(self, pid: int) -> Session | None:
        """Return a session, or None if it no longer exists."""

    def cancel_statement(self, pid: int) -> bool:
        """Make the session's current statement fail; return False if it is gone."""

    def end(self, pid: int) -> bool:
        """End the session and its transaction; return False if the session is gone.

        The session ends shortly after this returns.
        """


_LONGEST_QUERY = 1000


class ServerSessions(Sessions):
    """The sessions of a server, which one of them may inspect and end."""

    # User, application, query, state, since, and whether it is busy, by the pid.
    description: str

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection

    def describe(self, pid: int) -> Session | None:
        rows = fetch_rows(self._connection, self.description, [pid])
        if not rows:
            return None
        user, application, query, state, since, is_busy = rows[0]
        return Session(
            pid=pid,
            user=user or "",
            application=application or "",
            query=clipped(query or "", _LONGEST_QUERY),
            since=since or "",
            state=state or "",
            is_busy=bool(is_busy),
        )


class LockTimeoutClass(StrEnum):
    """How long a statement of this class may wait for its locks."""

    SHORT = "short"  # other sessions queue behind it while it waits
    NONE = "none"  # no session queues, or a timeout would do harm


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLockRequest:
    """A lock on a table; `mode` is the database's own name."""

    table: str
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRequest:
    """The locks that a statement requests, as far as its text shows."""

    limit: LockTimeoutClass
    names: frozenset[tuple[tuple[str, ...], str]] = frozenset()  # parts of a name, mode
    reaches_parents: bool = False  # includes the tables that its foreign keys reference
    may_repeat: bool = True  # by itself, after a failure outside a transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    pid: int
    user: str
    application: str
    query: str
    since: str  # when its transaction started, ISO 8601 in UTC; "" if hidden
    state: str
    begun: str  # distinguishes this session from a later one with the same pid
    age: float  # of its transaction, in seconds; 0 if hidden
    key: str  # distinguishes this transaction from others of the session
    yields: bool = False  # a vacuum that gives way to a session that waits long enough
    is_server: bool = False  # a process of the server itself: never ended
    certain: bool = True  # False: an old transaction whose locks are not visible


class LockInspector(Protocol):
    """Reports conflicting locks, and limits how long a statement waits for them."""

    def lock_request(self, sql: str) -> LockRequest:
        """Return the locks that a statement requests."""

    def is_contention(self, error: BaseException) -> bool:
        """Return whether a statement failed only because other sessions blocked it."""

    def limit(self, connection: BaseDatabaseWrapper, seconds: float | None) -> None:
        """Set how long the session waits for a lock from now on; None: no limit.

        Bypasses Django's cursor: this is not a statement of the migration.
        """

    def session(self, connection: BaseDatabaseWrapper) -> int:
        """Return the server's number of this session."""

    def tables(
        self, connection: BaseDatabaseWrapper, request: LockRequest
    ) -> tuple[TableLockRequest, ...]:
        """Return the locks on existing tables, with names resolved by this session."""

    def observes(self, connection: BaseDatabaseWrapper) -> bool:
        """Return whether the holders of locks are visible."""
        del connection
        return True

    def blockers_of(
        self, connection: BaseDatabaseWrapper, wanted: tuple[TableLockRequest, ...]
    ) -> list[Blocker]:
        """Return the sessions that hold conflicting locks, whatever their age; where locks
        are not visible, the sessions that may hold them."""

    def yield_time(self, connection: BaseDatabaseWrapper) -> float:
        """Return the seconds after which a vacuum gives way to a waiting session; 0 where
        nothing gives way."""
        del connection
        return 0.0

    def blocks_readers_or_writers(self, wanted: tuple[TableLockRequest, ...]) -> bool:
        """Return whether holding these locks blocks readers or writers; False where a
        definition commits by itself, and then holds no lock."""
        del wanted
        return False

    def end(self, connection: BaseDatabaseWrapper, blocker: Blocker) -> bool:
        """End this session if it is still the same one; return whether the request was
        sent."""


class CatalogReader(Protocol):
    """Reads what Django's introspection does not provide."""

    def columns(self, cursor: CursorWrapper, table: str) -> dict[str, bool]:
        """Return the columns of a table, each with whether it is NOT NULL."""

    def defaults(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return the columns of a table that have a database default, except those that
        number its rows; none where a migration's default is never in the table."""
        del cursor, table
        return frozenset()

    def invalid_indexes(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return the indexes of a table that the database maintains but does not use; none
        where an index exists or does not."""
        del cursor, table
        return frozenset()

    def has_rebuild_copy(self, tables: Collection[str]) -> bool:
        """Return whether one of these table names is that of an unfinished copy, which
        replaces another table when that one is altered; False where tables are altered in
        place."""
        del tables
        return False

    def stored(self, name: str) -> str:
        """Return a name, quoted or not, in the form in which names are compared."""


class Vendor(Protocol):
    """The interface to one kind of database."""

    name: str
    catalog: CatalogReader
    lock_is_of_session: bool = True  # the lock ends with the connection that took it
    # None: the database itself waits for its one writer.
    contention: LockInspector | None = None

    def identity(self, session: Any) -> DatabaseIdentity:
        """Return the identity of the database of an open driver session.

        Bypasses Django. Raises the driver's errors.
        """

    def own_settings(
        self,
        settings: dict[str, Any],
        *,
        patience: float,
        answer_timeout: float | None = None,
    ) -> dict[str, Any]:
        """Return the settings of a connection that only this package uses.

        Both limits are in seconds. `patience`: how long to wait for a busy database.
        `answer_timeout`: how long a statement waits for a silent server or network before
        it fails; None for no limit.
        """

    def limit_transaction(self, connection: BaseDatabaseWrapper) -> None:
        """Limit the open transaction: how long it waits for a lock, and how long the server
        keeps it if this process stops responding. Does nothing where a transaction waits no
        longer than its connection, and ends with its process."""
        del connection

    def limit_statements(
        self, connection: BaseDatabaseWrapper, seconds: float
    ) -> AbstractContextManager[None]:
        """Limit how long a statement in the block waits for its locks, on a connection that
        is closed afterwards. Does nothing where the settings of the connection limit
        it."""
        del connection, seconds
        return nullcontext()

    def is_direct(self, first: BaseDatabaseWrapper, second: BaseDatabaseWrapper) -> bool:
        """Return whether each connection has its own session, which ends with the
        connection.

        False if a transaction pooler assigns one session to both, or if a pool of this
        process keeps the session of a closed connection. Neither connection is open yet;
        both can be open afterwards. True by default: nothing is between this process and a
        file.
        """
        del first, second
        return True

    def troubles(self, connection: BaseDatabaseWrapper) -> CatalogProblems:
        """Return catalog states that make migrations fail; none where an index exists or
        does not, and the table itself counts its ids.

        Raises `django.db.DatabaseError` if the catalog cannot be read.
        """
        del connection
        return NO_PROBLEMS

    def health(
        self, connection: BaseDatabaseWrapper, touched: Impact, settings: HealthSettings
    ) -> tuple[HealthSignal, ...]:
        """Return the health of the database before a change to what is `touched`.

        Each query has a time limit; what this role may not see is unknown, with the reason.
        `connection` belongs to this package, and its session limits are changed. Raises
        `django.db.Error` if it cannot be opened.
        """

    def health_without_connection(self, error: Exception) -> HealthSignal | None:
        """Return what a failed connection attempt shows about the database, such as that
        all connections of its server are in use; None if nothing."""
        del error
        return None

    def forecaster(self, connection: BaseDatabaseWrapper) -> Forecaster:
        """Return a forecaster for the statements of one plan.

        It queries through `connection`, which is the connection of its alias during that
        time.
        """

    def colliding_index(self, connection: BaseDatabaseWrapper, sql: str) -> str | None:
        """Return the statement that drops the invalid index with which `sql` collides; None
        where no index is left half built."""
        del connection, sql
        return None

    def lock(self, connection: BaseDatabaseWrapper, slot: LockSlot) -> TargetLock:
        """Return the lock of this database, to be held through `connection`."""

    def sessions(self, connection: BaseDatabaseWrapper) -> Sessions:
        """Return access to other sessions through `connection`."""

    def interrupt(self, connection: BaseDatabaseWrapper) -> None:
        """Make the current statement of another thread of this process fail, if the
        database runs inside the process. On a server, another session cancels it."""
        del connection

    def worker_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of the connection that a worker opens for a migration."""
        return settings

    def prepare_worker_session(
        self, connection: BaseDatabaseWrapper, run: str, *, lock_timeout: float
    ) -> None:
        """Prepare an open session for the worker: name it, and lift the limits of the web
        role.

        `lock_timeout`, in seconds, applies to every wait without its own limit.
        """

    def sidecar(self, connection: BaseDatabaseWrapper) -> Path | None:
        """Return a folder beside a database that allows one writer, otherwise None."""
        del connection
        return None

    def is_private(self, connection: BaseDatabaseWrapper) -> bool:
        """Return whether no other process can access this database, as none can access the
        memory of this one."""
        del connection
        return False
