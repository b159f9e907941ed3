"""The position of each executed operation in the list of its migration's source.

Receivers of `pre_migrate` may change the operations of a migration before it runs:
django.contrib.contenttypes inserts one after each `RenameModel`. Plans, events, evidence
and resumed runs number operations by the source alone, so the worker remembers each list as
Django's executor loaded it, and compares it with the list that runs.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation

from migration_route.ledger.step_evidence import NONE_ADDED, AddedOperations
from migration_route.planning import graph as graphs

_REPEATABLE = ("django.contrib.contenttypes.management", "RenameContentType")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationPosition:
    """The position of one operation among those that run."""

    position: int | None  # in the source's list, from 0; None: another package added it
    count: int  # of the source's operations executed before it
    added: AddedOperations  # those of other packages, when this one starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The operations that run, compared with those of the migration's source."""

    positions: tuple[int | None, ...]  # of each that runs; None: not of the source
    count: int  # of the source
    is_matched: bool  # all of the source's are present, once each and in order

    def places(self, *, backwards: bool) -> list[OperationPosition]:
        """Return the position of each operation, in the order of the list."""
        added = self.added(backwards=backwards)
        if not self.is_matched:
            return [
                OperationPosition(position=position, count=0, added=added)
                for position in self.positions
            ]
        found: list[OperationPosition] = []
        count = number = 0
        for position in reversed(self.positions) if backwards else self.positions:
            if position is None:
                added_here = replace(added, begun=number)
                found.append(
                    OperationPosition(position=None, count=count, added=added_here)
                )
                number += 1
            else:
                found.append(OperationPosition(position=position, count=count, added=added))
                count += 1
        return found[::-1] if backwards else found

    def end(self, *, backwards: bool) -> OperationPosition:
        """Return the position after all operations."""
        added = self.added(backwards=backwards)
        return OperationPosition(position=None, count=self.count, added=added)

    def added(self, *, backwards: bool) -> AddedOperations:
        """Return the positions of operations of other packages, before any has run."""
        if not self.is_matched:
            return AddedOperations(is_matched=False)
        places: list[int] = []
        count = 0
        for position in reversed(self.positions) if backwards else self.positions:
            if position is None:
                places.append(count)
            else:
                count += 1
        return AddedOperations(places=tuple(places)) if places else NONE_ADDED


def layout_of(own: Sequence[Operation], found: Sequence[Operation]) -> Layout:
    """Compare the operations of a source with those that run, by identity."""
    by_identity = {id(operation): number for number, operation in enumerate(own)}
    positions = tuple(by_identity.get(id(operation)) for operation in found)
    kept = [position for position in positions if position is not None]
    return Layout(
        positions=positions,
        count=len(own),
        is_matched=kept == list(range(len(own))),
    )


def is_repeatable(operation: Operation) -> bool:
    """Return whether an operation of another package can be repeated with the same effect,
    wherever it stopped: `RenameContentType` looks for the old name first."""
    kind = type(operation)
    return (kind.__module__, kind.__name__) == _REPEATABLE


def _copy_repeated(migration: Migration) -> None:
    """Replace repeated entries of one operation by copies, so that each position of the
    list has an object of its own."""
    operations = list(migration.operations)
    if len(set(map(id, operations))) == len(operations):
        return
    seen: set[int] = set()
    for index, operation in enumerate(operations):
        if id(operation) in seen:
            operations[index] = copy.copy(operation)
        seen.add(id(operation))
    vars(migration)["operations"] = operations


@dataclass(frozen=True, slots=True)
class _Loaded:
    migration: Migration  # kept, so that no other object gets its identity
    operations: tuple[Operation, ...]
    loader: MigrationLoader


class LoadedMigrations:
    """Every migration as the executors of this process loaded it."""

    def __init__(self) -> None:
        self._loaded: dict[int, _Loaded] = {}

    def remember(self, loader: MigrationLoader) -> None:
        """Remember the operations of all migrations that were just loaded."""
        for migration in loader.disk_migrations.values():
            _copy_repeated(migration)
            self._loaded[id(migration)] = _Loaded(
                migration, tuple(migration.operations), loader
            )

    def layout_of(self, migration: Migration) -> Layout:
        """Compare what a migration would execute now with what was loaded."""
        _copy_repeated(migration)
        known = self._loaded.get(id(migration))
        own = known.operations if known else tuple(type(migration).operations)
        return layout_of(own, migration.operations)

    def in_order_of_execution(
        self, alias: str, plan: list[tuple[Migration, bool]]
    ) -> list[tuple[Migration, bool]]:
        """Return a plan in the order in which the executor that made it executes it."""
        known = self._loaded.get(id(plan[0][0])) if plan else None
        if known is None:
            return list(plan)
        return graphs.in_order_of_execution(known.loader, alias, plan)


@contextmanager
def track_loaded_migrations() -> Iterator[LoadedMigrations]:
    """Remember what each executor loads that is created in this block."""
    loaded = LoadedMigrations()
    original = MigrationExecutor.__init__

    @functools.wraps(original)
    def wrapped(self: MigrationExecutor, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        loaded.remember(self.loader)

    MigrationExecutor.__init__ = wrapped  # type: ignore[method-assign]
    try:
        yield loaded
    finally:
        MigrationExecutor.__init__ = original  # type: ignore[method-assign]
