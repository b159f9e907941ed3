"""Is now a good moment to change this database? Frozen values; no Django here.

The signals are read by `vendors/`, weighed by `deciding/health.py`, and heeded by the
supervisor of a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum, unique
from typing import Any


@unique
class SignalState(StrEnum):
    """What a signal says. Unknown does not stop: GitLab's rule for its own gate."""

    NORMAL = "normal"
    STOP = "stop"
    UNKNOWN = "unknown"


@unique
class SignalName(StrEnum):
    """What is looked at."""

    FREEZE = "freeze"
    STANDBY = "standby"
    LONG_TRANSACTION = "long_transaction"
    WRAPAROUND = "wraparound"
    DUMP = "dump"
    LOCK_QUEUE = "lock_queue"
    WRITER = "writer"
    REPLICATION_LAG = "replication_lag"
    ARCHIVE = "archive"
    CONNECTIONS = "connections"
    DISK = "disk"
    INVALID_INDEX = "invalid_index"
    RECORDER_SEQUENCE = "recorder_sequence"


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One thing that was looked at."""

    name: SignalName
    state: SignalState
    reason: str  # one sentence
    facts: Mapping[str, Any] = field(default_factory=dict)  # as JSON can say them
    lacks_forecast: bool = False  # what is rewritten has to be foretold, to be sure

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is stored and told."""
        return {
            "name": self.name.value,
            "state": self.state.value,
            "reason": self.reason,
            "facts": dict(self.facts),
        }


def normal(name: SignalName, reason: str, **facts: Any) -> Signal:
    """Return a signal that is in order."""
    return Signal(name=name, state=SignalState.NORMAL, reason=reason, facts=facts)


def stop(name: SignalName, reason: str, **facts: Any) -> Signal:
    """Return a signal that nothing should begin against."""
    return Signal(name=name, state=SignalState.STOP, reason=reason, facts=facts)


def unknown(name: SignalName, reason: str, **facts: Any) -> Signal:
    """Return a signal that could not be read."""
    return Signal(name=name, state=SignalState.UNKNOWN, reason=reason, facts=facts)


def undecided(name: SignalName, reason: str, **facts: Any) -> Signal:
    """Return a signal that a forecast of what is rewritten would decide."""
    return Signal(
        name=name,
        state=SignalState.UNKNOWN,
        reason=reason,
        facts=facts,
        lacks_forecast=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A time in which nothing is to begin."""

    begins: datetime  # aware
    ends: datetime  # aware; the first moment that is free again
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """From when on a signal stops. Where each default comes from stands in
    `docs/explanation/health.md`."""

    long_transaction: timedelta = timedelta(seconds=60)  # with locks on a touched table
    replication_lag: timedelta = timedelta(seconds=10)  # of the slowest standby
    replication_bytes: int = 256 * 1024 * 1024  # not replayed yet: sixteen segments
    archive_waiting: int = 42  # segments of WAL; GitLab's number
    connections: float = 0.9  # of those that the server admits
    disk: float = 2.0  # free, in sizes of what is rewritten: the copy, and its WAL
    lock_queue: timedelta = timedelta(seconds=5)  # that somebody waits for metadata
    every: timedelta = timedelta(seconds=10)  # between two looks while a run is held
    patience: timedelta = timedelta(hours=1)  # for one good moment
    ignore: frozenset[SignalName] = frozenset()  # shown, and not heeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """What a plan, or one step, has to do with in the database, as far as it can be
    known before it runs."""

    tables: frozenset[str] = frozenset()  # of its models; words of raw SQL
    parents: frozenset[str] = frozenset()  # that its new foreign keys point to
    indexes: frozenset[str] = frozenset()  # by name; words of raw SQL
    expected_invalid: frozenset[str] = frozenset()  # indexes that it drops or makes anew
    waits_for_all: bool = False  # it makes an index concurrently: for every snapshot
    most_rewrites: int | None = (
        None  # of all its tables, by its operations; None: who knows
    )
    rewritten: tuple[str, ...] | None = (
        None  # as often as it is at once; None: not foretold
    )
    unforeseen: bool = False  # some of what it does has no forecast

    @property
    def locked(self) -> tuple[str, ...]:
        """Return the tables on which it may take locks, in order."""
        return tuple(sorted(self.tables | self.parents))

    def to_dict(self) -> dict[str, Any]:
        """Return it as it is said between processes."""
        return {
            "tables": sorted(self.tables),
            "parents": sorted(self.parents),
            "indexes": sorted(self.indexes),
            "expected_invalid": sorted(self.expected_invalid),
            "waits_for_all": self.waits_for_all,
            "most_rewrites": self.most_rewrites,
            "rewritten": None if self.rewritten is None else list(self.rewritten),
            "unforeseen": self.unforeseen,
        }

    @classmethod
    def from_dict(cls, said: Mapping[str, Any]) -> Touched:
        """Read what `to_dict` returned; what is not said is not known."""
        rewritten = said.get("rewritten")
        return cls(
            tables=frozenset(said.get("tables", ())),
            parents=frozenset(said.get("parents", ())),
            indexes=frozenset(said.get("indexes", ())),
            expected_invalid=frozenset(said.get("expected_invalid", ())),
            waits_for_all=bool(said.get("waits_for_all", False)),
            most_rewrites=said.get("most_rewrites"),
            rewritten=None if rewritten is None else tuple(rewritten),
            unforeseen=bool(said.get("unforeseen", False)),
        )


NOTHING = Touched(most_rewrites=0)
"""What a run has to do with that only records its steps."""
