"""What does the route ask of a database?

What can stand in a catalog that makes migrations fail? Values; no SQL here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from migration_route.core.values import (
    Forecast,
    HealthSettings,
    HealthSignal,
    Impact,
    TableSize,
)
from migration_route.vendors.base_identity import DatabaseIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class InvalidIndex:
    """An index that a concurrent build has left half done: it costs, and serves nobody."""

    name: str
    table: str
    quoted: str  # its name as SQL writes it, with its schema


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceBehind:
    """The recorder's sequence, which would give out an id that is taken."""

    next_id: int
    last_id: int
    remedy: str  # the statement that puts it right


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogProblems:
    """What was found in one catalog."""

    invalid_indexes: tuple[InvalidIndex, ...] = ()
    sequence_behind: SequenceBehind | None = None


NONE = CatalogProblems()


class LockSlot(IntEnum):
    """Which of a run's two processes holds a lock.

    The worker holds its own on its own connection, so that a backend orphaned in
    mid-statement keeps the door shut until it is gone.
    """

    SUPERVISOR = 1
    WORKER = 2
    REHEARSAL = 3  # of this database, on a copy: one at a time


class TargetLock(Protocol):
    """One run per database, by a lock that the database drops with its holder."""

    def try_acquire(self) -> bool:
        """Take the lock now, or return False at once; never wait in the database."""

    def release(self) -> bool:
        """Give the lock back; False when it was not held any more."""

    def is_held(self) -> bool:
        """Tell whether it is still ours; False as well when its session has ended."""

    def holder(self) -> int | None:
        """Return the pid of the session that holds the lock now, None when nobody does.

        Where `Sessions.are_processes`, it is the pid of a process of this host.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session of the database, as others see it."""

    pid: int
    user: str
    application: str  # the name that the client gave, or where it comes from
    query: str  # the statement that it is at, or was at last
    since: str  # ISO 8601 in UTC: when that statement began; "" where nobody knows
    state: str  # in the words of the database
    is_busy: bool  # a statement is under way

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is stored and told."""
        told = asdict(self)
        del told["is_busy"]
        return told


class Sessions(Protocol):
    """What can be seen of other sessions, and done to them."""

    are_processes: bool  # a pid is one of the operating system, on this host

    def describe(self, pid: int) -> Session | None:
        """Return a session; None when it is not there any more."""

    def cancel_statement(self, pid: int) -> bool:
        """Let the statement that it is at fail; False when the session is not there."""

    def end(self, pid: int) -> bool:
        """End the session, and with it its transaction; False when it is not there.

        It goes a little later than this returns.
        """


class LockTimeoutClass(StrEnum):
    """For how long may a statement of this class wait for its locks?"""

    SHORT = "short"  # others queue up behind it while it waits
    NONE = "none"  # nobody does, or a timeout would do harm


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLockRequest:
    """A lock on a table: `mode` in the words of the database."""

    table: str
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LockRequest:
    """What a statement wants of the locks, as far as its text tells."""

    limit: LockTimeoutClass
    names: frozenset[tuple[tuple[str, ...], str]] = frozenset()  # a name's parts, a mode
    reaches_parents: bool = False  # the tables that its foreign keys point to, too
    may_repeat: bool = True  # by itself, after a failure outside of any transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocker:
    """A session that holds a lock which is in somebody's way."""

    pid: int
    user: str
    application: str
    query: str
    since: str  # when its transaction began, ISO 8601 in UTC; "" when that is hidden
    state: str
    begun: str  # what tells this session from a later one with the same pid
    age: float  # seconds that its transaction has lasted; 0 when that is hidden
    key: str  # what tells this transaction from another one of the same session
    yields: bool = False  # a vacuum that gives way to whoever waits long enough
    is_server: bool = False  # a process of the server's own: never to be ended
    certain: bool = True  # False: an old transaction, its locks cannot be seen


class LockInspector(Protocol):
    """What a database tells of locks that are in the way, and how waiting is limited."""

    def wish(self, sql: str) -> LockRequest:
        """Tell what a statement wants."""

    def is_contention(self, error: BaseException) -> bool:
        """Tell whether a statement failed only because others were in the way."""

    def limit(self, connection: BaseDatabaseWrapper, seconds: float | None) -> None:
        """Let the session wait so long for a lock from now on; None: without a limit.

        Sent past Django's cursor: it is no statement of the migration.
        """

    def session(self, connection: BaseDatabaseWrapper) -> int:
        """Return the number by which the server knows this session."""

    def tables(
        self, connection: BaseDatabaseWrapper, wish: LockRequest
    ) -> tuple[TableLockRequest, ...]:
        """Return the locks on tables that there are, by the eyes of this session."""

    def observes(self, connection: BaseDatabaseWrapper) -> bool:
        """Tell whether the holders of locks can be seen."""

    def in_the_way(
        self, connection: BaseDatabaseWrapper, wanted: tuple[TableLockRequest, ...]
    ) -> list[Blocker]:
        """Return who holds locks that conflict with these, whatever their age; where
        that cannot be seen, who might."""

    def yield_time(self, connection: BaseDatabaseWrapper) -> float:
        """Return the seconds after which a vacuum gives way to one who waits."""

    def blocks_others(self, wanted: tuple[TableLockRequest, ...]) -> bool:
        """Tell whether whoever holds these keeps readers or writers waiting."""

    def end(self, connection: BaseDatabaseWrapper, blocker: Blocker) -> bool:
        """End this session, if it is still the same one; return whether it was told to."""


class Forecaster(Protocol):
    """Who foretells the statements of one plan, one after the other.

    What an earlier one makes or renames is known to the later ones.
    """

    def foretell(self, sql: str) -> Forecast:
        """Tell what a statement would do to the tables that are there before the plan,
        by the catalog as it is; nothing is executed. Raises `django.db.DatabaseError`."""

    def pass_by(self) -> None:
        """Note that an operation comes here whose statements are not known."""

    def sizes(self, tables: Collection[str]) -> tuple[TableSize, ...]:
        """Tell how large tables are. Raises `django.db.DatabaseError`."""


class CatalogReader(Protocol):
    """What a catalog says beyond Django's introspection."""

    def columns(self, cursor: CursorWrapper, table: str) -> dict[str, bool]:
        """Return the columns of a table, each with whether it is NOT NULL."""

    def defaults(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return the columns of a table that have a default in the database, but for
        those that number its rows."""

    def invalid_indexes(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return the indexes of a table that the database keeps but does not use."""

    def is_being_made_anew(self, tables: Collection[str]) -> bool:
        """Tell whether one of these tables, by their names, is the half-done copy that
        takes the place of another one when that is altered."""

    def stored(self, name: str) -> str:
        """Return a name, quoted or not, in the one form in which names are compared."""


class Vendor(Protocol):
    """What is particular about one kind of database."""

    name: str
    lock_is_of_session: bool  # the lock goes with the connection that took it
    contention: LockInspector | None  # None: the database waits for its one writer itself

    @property
    def catalog(self) -> CatalogReader:
        """Return who reads its catalog."""

    def identity(self, session: Any) -> DatabaseIdentity:
        """Return which database an open session of the driver stands in.

        Sent past Django. Raises what the driver raises.
        """

    def own_settings(
        self,
        settings: dict[str, Any],
        *,
        patience: float,
        answer_timeout: float | None = None,
    ) -> dict[str, Any]:
        """Return the settings of a connection that belongs to the route alone.

        Both in seconds. `patience`: how long to wait for a busy database.
        `answer_timeout`: after how long without an answer a statement fails, where the
        server or the network is silent; None for no limit.
        """

    def limit_transaction(self, connection: BaseDatabaseWrapper) -> None:
        """Bound the transaction that is open: how long it may wait for a lock, and how
        long the server keeps it when this process falls silent in the middle."""

    def is_direct(self, first: BaseDatabaseWrapper, second: BaseDatabaseWrapper) -> bool:
        """Tell whether these two connections have a session each, which ends with them.

        False where a pooler of transactions hands one session to both, and where a pool
        of this process keeps the session of a connection that is closed. Neither of them
        is open yet, and both can be afterwards.
        """

    def troubles(self, connection: BaseDatabaseWrapper) -> CatalogProblems:
        """Return what stands in the catalog that makes migrations fail.

        Raises `django.db.DatabaseError` where it cannot be read.
        """

    def health(
        self, connection: BaseDatabaseWrapper, touched: Impact, settings: HealthSettings
    ) -> tuple[HealthSignal, ...]:
        """Return how the database is, for somebody who wants to change what is `touched`.

        Each question is bounded in time; what this role may not see is unknown, with the
        reason. `connection` belongs to the route; the limits of its session are changed.
        Raises `django.db.Error` where it cannot be opened.
        """

    def health_without_connection(self, error: Exception) -> HealthSignal | None:
        """Return what it tells of the database that a connection failed with `error`."""

    def forecaster(self, connection: BaseDatabaseWrapper) -> Forecaster:
        """Return who foretells what the statements of a plan would do there.

        It asks through `connection`, which is the one of its alias meanwhile.
        """

    def index_in_the_way(self, connection: BaseDatabaseWrapper, sql: str) -> str | None:
        """Return the statement that drops the invalid index which `sql` would run into."""

    def lock(self, connection: BaseDatabaseWrapper, slot: LockSlot) -> TargetLock:
        """Return the lock of this database, to be held through `connection`."""

    def sessions(self, connection: BaseDatabaseWrapper) -> Sessions:
        """Return what `connection` can see of other sessions, and do to them."""

    def interrupt(self, connection: BaseDatabaseWrapper) -> None:
        """Let the statement fail that another thread of this process is at, where the
        database lives in the process itself."""

    def worker_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Return the settings of the connection that a worker makes for a migration."""

    def prepare_worker_session(
        self, connection: BaseDatabaseWrapper, run: str, *, lock_timeout: float
    ) -> None:
        """Make an open session the worker's: name it, lift the web's limits.

        `lock_timeout` is in seconds, and for whatever waits without a limit of its own.
        """

    def sidecar(self, connection: BaseDatabaseWrapper) -> Path | None:
        """Return a folder beside a database that keeps one writer, else None."""

    def is_private(self, connection: BaseDatabaseWrapper) -> bool:
        """Tell whether no other process can see this database."""
