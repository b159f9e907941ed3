"""What does each operation of a plan do, seen through to what reaches the database?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from django.db import connections, router
from django.db.migrations import Migration, RunPython, RunSQL, SeparateDatabaseAndState

from migration_route.planning import graph as graphs
from migration_route.planning.changes import python, raw, schema
from migration_route.planning.changes.values import Change, ChangeKind, Deed, Reading
from migration_route.planning.plan import Plan
from migration_route.planning.states import Move, plan_moves
from migration_route.vocabulary import Mode

BUDGET = 2.0
"""Seconds that a door spends on reading operations; later steps stay unread."""


def read_changes(
    plan: Plan, migrations: list[tuple[Migration, bool]], *, budget: float = BUDGET
) -> Reading:
    """Read the operations of as many steps as the budget (seconds) allows, in order."""
    several = len(list(connections)) > 1
    if plan.mode is Mode.FAKE or not migrations:
        return Reading(plan=plan, has_several_databases=several)
    deadline = time.monotonic() + budget
    graph = graphs.read_graph_of(plan.database, [migration for migration, _ in migrations])
    walk = _Walk(alias=plan.database)
    unread = [step.label for step in plan.steps]
    for migration, moves in plan_moves(graph, migrations):
        walk.read(migration, moves)
        unread.pop(0)
        if time.monotonic() > deadline:
            break
    return Reading(
        plan=plan,
        changes=tuple(walk.changes),
        deeds=tuple(walk.deeds),
        new_tables=frozenset(walk.tables),
        unread=tuple(unread),
        has_several_databases=several,
    )


@dataclass(slots=True, kw_only=True)
class _Walk:
    """What was read so far, and what the plan has made by then."""

    alias: str
    changes: list[Change] = field(default_factory=list)
    deeds: list[Deed] = field(default_factory=list)
    tables: set[str] = field(default_factory=set)
    columns: dict[tuple[str, str], bool] = field(default_factory=dict)  # may be NULL

    def read(self, migration: Migration, moves: list[Move]) -> None:
        """Read the operations of one step."""
        label = f"{migration.app_label}.{migration.name}"
        for position, move in enumerate(moves):
            for part in _parts(move):
                if not _is_allowed(part, self.alias):
                    continue
                for change in _changes(part, self.alias):
                    self._keep(replace(change, step=label, operation=position))
                self.deeds.append(self._deed(part, migration, label, position))

    def _keep(self, change: Change) -> None:
        """Note a change, with what is known of what it is about."""
        keys = [(change.table, column) for column in change.columns]
        in_new_table = change.table in self.tables
        adds = change.kind is ChangeKind.COLUMN_ADDED
        if change.kind is ChangeKind.UNIQUE_ADDED:
            # NULL does not equal NULL: a new column that is empty is never twice the same.
            is_new = any(self.columns.get(key) for key in keys)
        else:
            is_new = bool(keys) and not adds and all(key in self.columns for key in keys)
        self.changes.append(
            replace(change, in_new_table=in_new_table, of_new_column=is_new)
        )
        match change.kind:
            case ChangeKind.TABLE_ADDED:
                self.tables.add(change.table)
            case ChangeKind.TABLE_RENAMED if in_new_table:
                self.tables.add(change.name)
            case ChangeKind.COLUMN_ADDED:
                self.columns.update(dict.fromkeys(keys, change.is_nullable))
            case ChangeKind.COLUMN_RENAMED if keys[0] in self.columns:
                self.columns[change.table, change.name] = self.columns[keys[0]]
            case ChangeKind.NULL_FORBIDDEN if is_new:
                self.columns.update(dict.fromkeys(keys, False))

    def _deed(self, part: Move, migration: Migration, label: str, position: int) -> Deed:
        operation, app, before, after, backwards = part
        deed = Deed(step=label, operation=position)
        if isinstance(operation, RunPython):
            code = operation.reverse_code if backwards else operation.code
            if code is None or code is RunPython.noop:
                return deed
            return replace(
                deed,
                writes_rows=True,
                python=python.read_function(code),
                is_unprotected=not (migration.atomic or operation.atomic),
            )
        if isinstance(operation, RunSQL):
            text = raw.statements_of(operation, backwards=backwards)
            return replace(
                deed,
                tables=tuple(sorted(raw.altered_tables(text) - self.tables)),
                writes_rows=any(map(raw.writes_rows, text)),
                is_concurrent=any(map(raw.is_concurrent, text)),
            )
        touched = set(schema.tables_of(operation, app, before, after)) - self.tables
        return replace(
            deed,
            tables=tuple(sorted(touched)),
            is_concurrent=type(operation).__name__.endswith("Concurrently"),
        )


def _changes(part: Move, alias: str) -> Iterator[Change]:
    operation, app, before, after, backwards = part
    if isinstance(operation, RunSQL):
        for statement in raw.statements_of(operation, backwards=backwards):
            yield from raw.changes_of(statement)
    elif not isinstance(operation, RunPython):
        yield from schema.changes_of(operation, app, before, after, connections[alias])


def _parts(move: Move) -> Iterator[Move]:
    """See through operations that do one thing to the state and another to the database."""
    operation, app, before, after, backwards = move
    if not isinstance(operation, SeparateDatabaseAndState):
        yield move
        return
    start = (after if backwards else before).clone()
    inner: list[Move] = []
    for part in operation.database_operations:
        end = start.clone()
        part.state_forwards(app, end)
        inner.append(
            (part, app, end, start, True) if backwards else (part, app, start, end, False)
        )
        start = end
    for part_move in reversed(inner) if backwards else inner:
        yield from _parts(part_move)


def _is_allowed(part: Move, alias: str) -> bool:
    """Tell whether the router lets an operation reach this database, as Django asks it."""
    operation, app, *_ = part
    if isinstance(operation, RunPython | RunSQL):
        return bool(router.allow_migrate(alias, app, **operation.hints))
    name = schema.model_name_of(operation)
    return name is None or bool(router.allow_migrate(alias, app, model_name=name.lower()))
