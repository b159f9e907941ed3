"""What does a database need, for a plan to be carried out in it and undone as a whole?"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper


class InPlaceFailure(Enum):
    """What a statement of a rehearsal in place has failed for."""

    OUT_OF_TIME = auto()
    LOCK_TAKEN = auto()  # by others, for longer than it may wait
    NO_TRANSACTION = auto()  # or no such savepoint in it
    OTHER = auto()


class InPlaceSupport(Protocol):
    """How one kind of database carries out a plan in one transaction, never committed.

    What is sent here is sent past Django's cursor: it is no statement of the migration.
    """

    why_not: str  # why it cannot; "" where it can, and then the rest may be asked

    def require(self, connection: BaseDatabaseWrapper) -> None:
        """Raise `CannotRehearse` where a right is missing, and say what to do."""

    def prepare(self, connection: BaseDatabaseWrapper) -> None:
        """Make an open session, which is in no transaction, unable to write in any but
        the one that `bar` begins with."""

    def bar(self, connection: BaseDatabaseWrapper) -> None:
        """Let this transaction write, and let the server refuse to commit it, by
        whichever way that is asked. Its first statements."""

    def is_barred(self, connection: BaseDatabaseWrapper) -> bool:
        """Tell whether the session still stands in the transaction of `bar`."""

    def bound(
        self, connection: BaseDatabaseWrapper, *, lock_seconds: float, seconds: float
    ) -> None:
        """Let what comes next wait so long for a lock, and take so long in all."""

    def settle(self, connection: BaseDatabaseWrapper) -> None:
        """Let happen what the database keeps for the end of a transaction, and fail for
        what it would refuse then."""

    def trouble(self, error: BaseException) -> InPlaceFailure:
        """Tell what kind of failure a statement has met."""

    def text_of(self, connection: BaseDatabaseWrapper, query: Any) -> str:
        """Return a query in whichever form the driver takes one, as text."""

    def leaves(self, connection: BaseDatabaseWrapper, sql: str) -> str:
        """Tell what a text does that must not be sent: it would end the transaction,
        outlive it, or lift its bounds; "" where nothing. The mode is the session's."""

    def watch_driver(self, look: Callable[[Any], None]) -> None:
        """Let `look` hear each query before the driver sends it, past Django as well, from
        now on; what it raises prevents that. A commit is heard as one."""


class InPlaceUnsupported:
    """A database in which no plan can be carried out and undone as a whole."""

    def __init__(self, why_not: str) -> None:
        self.why_not = why_not

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name}: {self.why_not}")
