"""What do the steps of a plan have to do with in the database, as far as is known?

By the names in their operations and the words in their raw SQL: no SQL is made for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import Field

from migration_route.health import NOTHING, Touched
from migration_route.planning import graph as graphs
from migration_route.planning.changes.schema import table_of
from migration_route.planning.plan import Plan
from migration_route.planning.rewriting import (
    most_in_one_step,
    most_rewrites,
    parts_of,
    raw_sql,
)
from migration_route.planning.states import plan_moves, state_before
from migration_route.vocabulary import Mode

_MAKES_INDEX = re.compile(
    r"\s*create\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?\"?(?P<name>\w+)",
    re.IGNORECASE,
)
_MOST_WORDS = 5000  # of raw SQL: a step that carries a dump inside names nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Touching:
    """What has been seen so far."""

    tables: set[str] = field(default_factory=set)
    parents: set[str] = field(default_factory=set)  # that new foreign keys point to
    names: set[str] = field(default_factory=set)  # of indexes, or words of raw SQL
    dropped: set[str] = field(default_factory=set)  # indexes that a step takes away
    rebuilt: dict[str, str] = field(default_factory=dict)  # index to the step, concurrently

    def value(self, *, most_rewrites: int | None) -> Touched:
        """Return it as the look at the database takes it."""
        return Touched(
            tables=frozenset(self.tables),
            parents=frozenset(self.parents - self.tables),
            indexes=frozenset(self.names),
            expected_invalid=frozenset(self.dropped | set(self.rebuilt)),
            waits_for_all=bool(self.rebuilt),
            most_rewrites=most_rewrites,
        )


def touching_of(plan: Plan, migrations: list[tuple[Migration, bool]]) -> Touching:
    """Go through the steps of a plan."""
    touching = Touching()
    if plan.mode is Mode.FAKE or not migrations:
        return touching
    graph = graphs.read_graph_of(plan.database, [migration for migration, _ in migrations])
    for migration, moves in plan_moves(graph, migrations):
        label = f"{migration.app_label}.{migration.name}"
        for operation, app, before, after, backwards in moves:
            for part in parts_of(operation):
                for state in (before, after):
                    touching.tables.update(_tables(part, app, state))
                _see(part, app, label, touching, (before, after), backwards=backwards)
    return touching


def touched_by(plan: Plan, migrations: list[tuple[Migration, bool]]) -> Touched:
    """Return what a plan has to do with.

    The names lead to tables in one state of the project, that of the database as it is:
    a table which the plan makes itself is nobody else's yet. So a plan of a thousand
    migrations takes no longer than their names.
    """
    touching = Touching()
    if plan.mode is Mode.FAKE or not migrations:
        return NOTHING
    graph = graphs.read_graph_of(plan.database, [migration for migration, _ in migrations])
    backwards = migrations[0][1]
    now = graph.loader.project_state() if backwards else state_before(graph, migrations)
    for migration, is_back in migrations:
        _see_all(migration, (now,), touching, backwards=is_back)
    return touching.value(
        most_rewrites=most_in_one_step(
            most_rewrites(migration, (now,), backwards=is_back)
            for migration, is_back in migrations
        )
    )


def touched_by_step(
    migration: Migration, state: ProjectState, *, backwards: bool
) -> Touched:
    """Return what one step has to do with; `state` is the one before the migration, as
    Django's executor has it, and is left as it is.

    Forwards the names lead to tables in that state alone: what the step itself makes is
    nobody else's yet. Nothing is rendered, and nothing is copied.
    """
    touching = Touching()
    states: tuple[ProjectState, ...] = (state,)
    if backwards:
        after = ProjectState(
            {key: model.clone() for key, model in state.models.items()},
            real_apps=state.real_apps,
        )
        for operation in migration.operations:
            operation.state_forwards(migration.app_label, after)
        states = (state, after)
    _see_all(migration, states, touching, backwards=backwards)
    most = most_rewrites(migration, states, backwards=backwards)
    return touching.value(most_rewrites=most)


def _see_all(
    migration: Migration,
    states: tuple[ProjectState, ...],
    touching: Touching,
    *,
    backwards: bool,
) -> None:
    """Look at each operation of a migration; their names are looked up in these states."""
    app, label = migration.app_label, f"{migration.app_label}.{migration.name}"
    for operation in migration.operations:
        for part in parts_of(operation):
            for state in states:
                touching.tables.update(_tables(part, app, state))
            _see(part, app, label, touching, states, backwards=backwards)


def _tables(operation: Operation, app: str, state: ProjectState) -> Iterator[str]:
    """Name the tables of the models that an operation names."""
    # With a `model_name`, the other names are those of a field, an index, a constraint.
    is_of_model = isinstance(getattr(operation, "model_name", None), str)
    attributes = ("model_name",) if is_of_model else ("name", "old_name", "new_name")
    for attribute in attributes:
        name = getattr(operation, attribute, None)
        model = state.models.get((app, name.lower())) if isinstance(name, str) else None
        if model is not None:
            yield table_of(model)


def _parents(
    operation: Operation, app: str, states: Iterable[ProjectState]
) -> Iterator[str]:
    """Name the tables that the fields of an operation point to."""
    fields = [part for _, part in getattr(operation, "fields", ()) or ()]
    fields.append(getattr(operation, "field", None))
    for part in fields:
        remote = getattr(part, "remote_field", None) if isinstance(part, Field) else None
        model = getattr(remote, "model", None)
        if not isinstance(model, str):
            model = getattr(getattr(model, "_meta", None), "label", None)
        if not model or model == "self":
            continue
        label, _, name = model.rpartition(".")
        for state in states:
            if found := state.models.get((label or app, name.lower())):
                yield table_of(found)


def _see(
    operation: Operation,
    app: str,
    label: str,
    touching: Touching,
    states: Iterable[ProjectState],
    *,
    backwards: bool,
) -> None:
    kind = type(operation).__name__
    touching.parents.update(_parents(operation, app, states))
    index = getattr(getattr(operation, "index", None), "name", None)
    if index is None and kind.startswith("RemoveIndex"):
        index = operation.name  # type: ignore[attr-defined]
    if index:
        touching.names.add(index)
        makes = kind.startswith("AddIndex") is not backwards
        if not makes:
            touching.dropped.add(index)
        elif kind.endswith("Concurrently") and index not in touching.dropped:
            touching.rebuilt[index] = label
    for raw in raw_sql(operation, backwards=backwards):
        words = re.findall(r"\w+", raw)[:_MOST_WORDS]
        touching.names.update(words)
        touching.tables.update(words)
        if made := _MAKES_INDEX.match(raw):
            touching.rebuilt[made["name"]] = label
