"""How does a forecast look on the wire?"""

from __future__ import annotations

from msgspec import Struct


class TableLockAnswer(Struct, frozen=True, kw_only=True):
    """A lock on a table, its mode in the words of the database, and who waits for it:
    reads, writes, schema_changes."""

    table: str
    mode: str
    blocks: list[str]


class ForecastAnswer(Struct, frozen=True, kw_only=True):
    """What one statement would do to the tables that are there before the plan; not
    `is_understood`: the worst is foretold for the tables that it names."""

    locks: list[TableLockAnswer]
    rewrites: list[str]
    scans: list[str]
    algorithm: str
    is_understood: bool


class TableAnswer(Struct, frozen=True, kw_only=True):
    """How large a table is now, as the database estimates it; null: not known."""

    table: str
    rows: int | None
    bytes: int | None


class EstimateAnswer(Struct, frozen=True, kw_only=True):
    """How long the same step took before, in which run, on which database, and when that
    was asked for."""

    ms: int
    run: str
    database: str
    at: str
