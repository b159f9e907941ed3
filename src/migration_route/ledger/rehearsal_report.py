"""What was seen when a plan was carried out on a copy? Frozen values, stored as JSON."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenLock:
    """A lock that a statement has really taken on a table that was there before."""

    table: str
    mode: str  # in the words of the database
    blocks: tuple[str, ...] = ()  # the words of `forecast.Blocked`
    held_ms: int | None = None  # from the statement to the end of the step


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenStatement:
    """One statement as it was carried out."""

    sql: str
    duration_ms: int  # of the slowest, where it was sent more than once
    times: int = 1  # how often Python sent this text
    total_ms: int = 0  # all those times together
    rows: int | None = None  # as the driver counts them; None: it does not
    locks: tuple[SeenLock, ...] | None = None  # None: they could not be seen
    rewrites: tuple[str, ...] = ()  # tables whose every row was written anew
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenOperation:
    """One operation of a step; without a position: what comes at the end of the step."""

    position: int | None
    description: str
    duration_ms: int
    runs_python: bool = False
    queries: int = 0  # all statements that it sent
    distinct: int = 0  # how many of them differ
    omitted: int = 0  # those that are counted, and not listed
    statements: tuple[SeenStatement, ...] = ()  # of Python's queries, the slowest


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenError:
    """What stopped a step."""

    type: str
    message: str
    operation: int | None = None
    sqlstate: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenStep:
    """One step as it was carried out."""

    app: str
    name: str
    direction: str
    state: str = "not_started"  # the words of `StepState`
    duration_ms: int | None = None
    operations: tuple[SeenOperation, ...] = ()
    error: SeenError | None = None

    @property
    def label(self) -> str:
        """Return "app.name"."""
        return f"{self.app}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Something that this rehearsal could not show, and why."""

    code: str
    message: str
    step: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a rehearsal has shown."""

    steps: tuple[SeenStep, ...] = ()
    back: tuple[SeenStep, ...] | None = None  # the way back; None: not walked
    differences: tuple[str, ...] | None = (
        None  # of the schema afterwards; None: not compared
    )
    limits: tuple[Limit, ...] = ()
    copy_ms: int | None = None
    duration_ms: int | None = None  # of the steps forth, without the copy
    output: tuple[str, ...] = ()  # the last lines that were printed

    def longest_lock(self) -> SeenLock | None:
        """Return the lock that kept others waiting for longest; None: none was seen."""
        found = [
            lock
            for step in self.steps
            for operation in step.operations
            for statement in operation.statements
            for lock in statement.locks or ()
            if lock.held_ms is not None and {"reads", "writes"} & set(lock.blocks)
        ]
        return max(
            found, key=lambda lock: (len(lock.blocks), lock.held_ms or 0), default=None
        )


def report_to_json(report: Report) -> str:
    """Return it as it is stored."""
    return msgspec.json.encode(report).decode()


def report_from_json(text: str) -> Report:
    """Read what `report_to_json` returned."""
    return msgspec.json.decode(text, type=Report)
