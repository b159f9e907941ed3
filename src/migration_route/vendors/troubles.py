"""What can stand in a catalog that makes migrations fail? Values; no SQL here."""

from __future__ import annotations

from dataclasses import dataclass


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
class Troubles:
    """What was found in one catalog."""

    invalid_indexes: tuple[InvalidIndex, ...] = ()
    sequence_behind: SequenceBehind | None = None


NONE = Troubles()
