"""Reads the operations of a plan, including nested ones, as changes of the database."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from django.db import connections, router
from django.db.migrations import Migration, RunPython, RunSQL, SeparateDatabaseAndState

from migration_route.core.enums import Mode
from migration_route.planning import graph as graphs
from migration_route.planning.changes import raw_sql, run_python, schema
from migration_route.planning.changes.types import (
    ChangeKind,
    OperationEffect,
    PlanChanges,
    SchemaChange,
)
from migration_route.planning.phases import MigrationPlan
from migration_route.planning.plan import Plan
from migration_route.planning.sql import Move, plan_moves
from migration_route.planning.states import advance

BUDGET = 2.0
"""Seconds that an interface spends on reading operations; later steps stay unread."""


def read_changes(
    plan: Plan, migrations: MigrationPlan, *, budget: float = BUDGET
) -> PlanChanges:
    """Read the operations of as many steps as the budget (seconds) allows, in order.

    The result for the last plan of each database is cached, because the page of a long plan
    requests it piece by piece.
    """
    if plan.mode is Mode.FAKE or not migrations:
        return PlanChanges(plan=plan)
    cached = _cached.get(plan.database)
    if cached is not None and cached.is_about(plan, migrations):
        return replace(cached.reading, plan=plan)
    graph = graphs.read_graph_of(plan.database, [migration for migration, _ in migrations])
    reading = read_moves(plan, plan_moves(graph, migrations), budget=budget)
    if not reading.unread:
        about = replace(plan, steps=(), findings=(), tables=())  # without its SQL
        _cached[plan.database] = _CachedChanges(migrations, replace(reading, plan=about))
    return reading


@dataclass(frozen=True, slots=True)
class _CachedChanges:
    """The cached changes of a plan, with the migrations they were read from."""

    migrations: MigrationPlan
    reading: PlanChanges

    def is_about(self, plan: Plan, migrations: MigrationPlan) -> bool:
        """Return whether this is the same plan, of the same migration objects."""
        return self.reading.plan.fingerprint == plan.fingerprint and [
            (id(migration), backwards) for migration, backwards in self.migrations
        ] == [(id(migration), backwards) for migration, backwards in migrations]


_cached: dict[str, _CachedChanges] = {}  # by alias


def read_moves(
    plan: Plan, moves: Iterable[tuple[Migration, Iterable[Move]]], *, budget: float = BUDGET
) -> PlanChanges:
    """Read the operations of a plan, each between the states around it."""
    deadline = time.monotonic() + budget
    reader = _Reader(alias=plan.database)
    unread = [step.label for step in plan.steps]
    for migration, of_step in moves:
        reader.read(migration, of_step)
        unread.pop(0)
        if time.monotonic() > deadline:
            break
    return PlanChanges(
        plan=plan,
        changes=tuple(reader.changes),
        deeds=tuple(reader.deeds),
        new_tables=frozenset(reader.tables),
        unread=tuple(unread),
        has_several_databases=len(list(connections)) > 1,
    )


@dataclass(slots=True, kw_only=True)
class _Reader:
    """The changes read so far, and what the plan has created up to that point."""

    alias: str
    changes: list[SchemaChange] = field(default_factory=list)
    deeds: list[OperationEffect] = field(default_factory=list)
    tables: set[str] = field(default_factory=set)
    columns: dict[tuple[str, str], bool] = field(default_factory=dict)  # may be NULL
    names: set[tuple[str, str]] = field(default_factory=set)  # of tables and columns
    unique: set[tuple[str, frozenset[str], str]] = field(default_factory=set)  # dropped

    def read(self, migration: Migration, moves: Iterable[Move]) -> None:
        label = f"{migration.app_label}.{migration.name}"
        for position, move in enumerate(moves):
            for part in _parts(move):
                if not _is_allowed(part, self.alias):
                    continue
                for change in _changes(part, self.alias):
                    self._record(replace(change, step=label, operation=position))
                self.deeds.append(self._deed(part, migration, label, position))

    def _record(self, change: SchemaChange) -> None:
        """Record a change, and whether the plan itself created its subject."""
        in_new_table = change.table in self.tables
        self.changes.append(
            replace(change, in_new_table=in_new_table, of_new_column=self._is_new(change))
        )
        keys = [(change.table, column) for column in change.columns]
        match change.kind:
            case ChangeKind.TABLE_ADDED:
                self.tables.add(change.table)
            case ChangeKind.TABLE_RENAMED:
                self.names.add((change.name, ""))
                if in_new_table:
                    self.tables.add(change.name)
            case ChangeKind.COLUMN_ADDED:
                self.columns.update(dict.fromkeys(keys, change.is_nullable))
            case ChangeKind.COLUMN_RENAMED:
                self.names.add((change.table, change.name))
                if keys[0] in self.columns:
                    self.columns[change.table, change.name] = self.columns[keys[0]]
            case ChangeKind.NULL_FORBIDDEN:
                self.columns.update({key: False for key in keys if key in self.columns})
            case ChangeKind.UNIQUE_DROPPED:
                self.unique.add((change.table, frozenset(change.columns), change.detail))

    def _is_new(self, change: SchemaChange) -> bool:
        """Return whether a change affects only what the plan itself has created."""
        keys = [(change.table, column) for column in change.columns]
        match change.kind:
            case ChangeKind.COLUMN_ADDED:
                return False
            case ChangeKind.UNIQUE_ADDED:
                # NULL does not equal NULL: a new column without values has no duplicates.
                # And what was unique before the plan still is.
                known = (change.table, frozenset(change.columns), change.detail)
                return known in self.unique or any(self.columns.get(key) for key in keys)
            case ChangeKind.TABLE_RENAMED:
                return (change.table, "") in self.names
            case ChangeKind.COLUMN_RENAMED if keys[0] in self.names:
                return True
        return bool(keys) and all(key in self.columns for key in keys)

    def _deed(
        self, part: Move, migration: Migration, label: str, position: int
    ) -> OperationEffect:
        operation, app, before, after, backwards = part
        deed = OperationEffect(step=label, operation=position)
        if isinstance(operation, RunPython):
            code = operation.reverse_code if backwards else operation.code
            if code is None or code is RunPython.noop:
                return deed
            read = run_python.read_function(code)
            return replace(
                deed,
                writes_rows=read is None or read.reaches_rows,
                python=read,
                is_unprotected=(read is None or read.reaches_rows)
                and not (migration.atomic or operation.atomic),
            )
        if isinstance(operation, RunSQL):
            vendor = connections[self.alias].vendor
            text = raw_sql.statements_of(operation, vendor, backwards=backwards)
            return replace(
                deed,
                tables=tuple(sorted(raw_sql.altered_tables(text) - self.tables)),
                writes_rows=any(map(raw_sql.writes_rows, text)),
                is_concurrent=any(map(raw_sql.is_concurrent, text)),
            )
        touched = set(schema.tables_of(operation, app, before, after)) - self.tables
        return replace(
            deed,
            tables=tuple(sorted(touched)),
            is_concurrent=type(operation).__name__.endswith("Concurrently"),
        )


def _changes(part: Move, alias: str) -> Iterator[SchemaChange]:
    operation, app, before, after, backwards = part
    if isinstance(operation, RunSQL):
        vendor = connections[alias].vendor
        for statement in raw_sql.statements_of(operation, vendor, backwards=backwards):
            yield from raw_sql.changes_of(statement)
    elif not isinstance(operation, RunPython):
        yield from schema.changes_of(operation, app, before, after, connections[alias])


def _parts(move: Move) -> Iterator[Move]:
    """Yield the database operations inside operations that treat state and database
    apart."""
    operation, app, before, after, backwards = move
    if not isinstance(operation, SeparateDatabaseAndState):
        yield move
        return
    start = (after if backwards else before).clone()
    inner: list[Move] = []
    for part in operation.database_operations:
        end = start.clone()
        advance(part, app, end)
        inner.append(
            (part, app, end, start, True) if backwards else (part, app, start, end, False)
        )
        start = end
    for part_move in reversed(inner) if backwards else inner:
        yield from _parts(part_move)


def _is_allowed(part: Move, alias: str) -> bool:
    """Return whether the router allows an operation on this database, as Django asks it."""
    operation, app, *_ = part
    if isinstance(operation, RunPython | RunSQL):
        return bool(router.allow_migrate(alias, app, **operation.hints))
    name = schema.model_name_of(operation)
    return name is None or bool(router.allow_migrate(alias, app, model_name=name.lower()))
