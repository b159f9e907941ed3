"""The interface for applying a plan in a database and rolling it back as a whole."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Protocol

from django.db.backends.base.base import BaseDatabaseWrapper


class InPlaceFailure(Enum):
    """Why a statement of a rehearsal in place failed."""

    OUT_OF_TIME = auto()
    LOCK_TAKEN = auto()  # by others, for longer than the limit
    NO_TRANSACTION = auto()  # or no such savepoint
    OTHER = auto()


class InPlaceSupport(Protocol):
    """Applies a plan in one transaction that is never committed.

    Statements sent here bypass Django's cursor: they are not statements of the migration.
    """

    why_not: str  # why it is unsupported; "" if it is, and only then call the rest

    def require(self, connection: BaseDatabaseWrapper) -> None:
        """Raise `CannotRehearse`, with a hint, if a privilege is missing."""

    def prepare(self, connection: BaseDatabaseWrapper) -> None:
        """Prevent an open session, which is in no transaction, from writing in any
        transaction but the one that starts with `bar`."""

    def bar(self, connection: BaseDatabaseWrapper) -> None:
        """Let this transaction write, and make the server refuse every form of commit.
        These are its first statements."""

    def is_commit_prevented(self, connection: BaseDatabaseWrapper) -> bool:
        """Return whether the session is still in the transaction of `bar`."""

    def bound(
        self, connection: BaseDatabaseWrapper, *, lock_seconds: float, seconds: float
    ) -> None:
        """Limit what follows: its waits for locks, and its total time."""

    def settle(self, connection: BaseDatabaseWrapper) -> None:
        """Run the checks that the database defers to the end of a transaction, and raise
        what a commit would raise."""

    def trouble(self, error: BaseException) -> InPlaceFailure:
        """Return the kind of failure of a statement."""

    def text_of(self, connection: BaseDatabaseWrapper, query: Any) -> str:
        """Return a query as text, in whatever form the driver accepts it."""

    def leaves(self, connection: BaseDatabaseWrapper, sql: str) -> str:
        """Return why a text must not be sent: it would end the transaction, outlive it, or
        lift its limits; "" if it may be sent. The text is read in the mode of the session.
        """

    def watch_driver(self, look: Callable[[Any], None]) -> None:
        """Call `look` with each query before the driver sends it, from now on.

        Includes queries that bypass Django, and commits. An exception of `look` prevents
        the query.
        """


class InPlaceUnsupported:
    """A database in which no plan can be applied and rolled back as a whole."""

    def __init__(self, why_not: str) -> None:
        self.why_not = why_not

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name}: {self.why_not}")
