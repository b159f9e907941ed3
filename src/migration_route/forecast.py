"""What would a statement do to the database? Frozen values; no Django here.

Made by `vendors/`, from the text of the statement and from the catalog as it is. In
doubt the stronger effect is foretold: a reader is never told less than what happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique


@unique
class Blocked(StrEnum):
    """Who waits for a statement while it holds its lock?"""

    READS = "reads"
    WRITES = "writes"
    SCHEMA_CHANGES = "schema_changes"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLock:
    """A lock that a statement takes on one table."""

    table: str
    mode: str  # in the words of the database
    blocks: frozenset[Blocked] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What one statement would do to the tables that are there before the plan."""

    locks: tuple[TableLock, ...] = ()
    rewrites: tuple[str, ...] = ()  # tables whose every row is written anew
    scans: tuple[str, ...] = ()  # tables that are read from end to end
    algorithm: str = ""  # instant, inplace, copy, rebuild; "" where there is one way
    is_understood: bool = True  # False: the statement was not; the worst is foretold


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSize:
    """How large a table is now, as the database estimates it."""

    table: str
    rows: int | None  # None: not known
    bytes: int | None  # with indexes and what is stored apart; None: not known
