"""What do the steps of a plan have to do with in the database, as far as is known?

By the names in their operations and the words in their raw SQL: no SQL is made for it.

Which tables would be written anew, all at once?

A quick answer by the kinds of the operations: at most so often. And an exact one by the
forecasts of their statements, for whoever has no room for the most.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from django.db import DatabaseError, connections
from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import Field

from migration_route.core.enums import Mode
from migration_route.core.values import NO_IMPACT, Impact
from migration_route.planning import graph as graphs
from migration_route.planning.changes.schema import table_of
from migration_route.planning.plan import Plan, Step
from migration_route.planning.planner import describe
from migration_route.planning.sql import (
    backward_moves,
    collected,
    forward_moves,
    plan_moves,
    state_before,
    with_forecast,
)
from migration_route.vendors import vendor_of

logger = logging.getLogger("migration_route.planning")

RewriteForecast = tuple[tuple[str, ...] | None, bool]
"""The tables that are written anew, each as often as there is a copy of it at one time;
and whether there is something of which that is not foretold."""

_KNOWN = ("django.db.migrations.operations", "django.contrib.postgres.operations")
# No table that is there has its rows written anew by these, in no database.
_NEVER = frozenset(
    (
        *("CreateModel", "DeleteModel"),
        *("AlterModelManagers", "AlterModelOptions", "AlterModelTableComment"),
    )
)


def most_rewrites(
    migration: Migration, states: tuple[ProjectState, ...], *, backwards: bool
) -> int | None:
    """Return how often, at most, the tables that a migration names are written anew
    within one transaction; None where others may be. What Python does is not counted."""
    most = 0
    for operation in migration.operations:
        for part in parts_of(operation):
            count = _most_of(part, migration.app_label, states, backwards=backwards)
            if count is None:
                return None
            most += count
    return most if migration.atomic else min(most, 1)


def most_in_one_step(counts: Iterable[int | None]) -> int | None:
    """Return the most of several steps: each gives back its room at its end."""
    found = list(counts)
    return None if None in found else max((count or 0 for count in found), default=0)


def _most_of(
    operation: Operation, app: str, states: tuple[ProjectState, ...], *, backwards: bool
) -> int | None:
    if not operation.reduces_to_sql:
        return 0
    kind = type(operation)
    if not kind.__module__.startswith(_KNOWN):
        return None
    if kind.__name__ in _NEVER:
        return 0
    if kind.__name__ == "RunSQL":
        return sum(text.count(";") + 1 for text in raw_sql(operation, backwards=backwards))
    if kind.__name__ == "RenameModel" or _is_referred_to(operation, app, states):
        return None
    return 1


def _is_referred_to(
    operation: Operation, app: str, states: tuple[ProjectState, ...]
) -> bool:
    """Tell whether columns of other tables may change together with this field."""
    if type(operation).__name__ != "AlterField":
        return False
    model = (app, operation.model_name.lower())  # type: ignore[attr-defined]
    name: str = operation.name  # type: ignore[attr-defined]
    before = [
        state.models[model].fields.get(name) for state in states if model in state.models
    ]
    return any(
        field.primary_key or field.unique or field.many_to_many
        for field in (operation.field, *filter(None, before))  # type: ignore[attr-defined]
    )


def parts_of(operation: Operation) -> Iterable[Operation]:
    """Return what of an operation reaches the database."""
    found: Iterable[Operation] = getattr(operation, "database_operations", [operation])
    return found


def raw_sql(operation: Operation, *, backwards: bool) -> Iterator[str]:
    """Go through the statements that an operation holds as text: one, or a list of them,
    each alone or with its parameters."""
    raw = getattr(operation, "reverse_sql" if backwards else "sql", None)
    for statement in [raw] if isinstance(raw, str) else raw or ():
        yield statement if isinstance(statement, str) else statement[0]


def rewritten_by(plan: Plan) -> RewriteForecast:
    """Return what the step of a plan rewrites that needs the most room, by the forecasts
    and sizes that the plan tells."""
    sizes = {size.table: size.bytes or 0 for size in plan.tables}
    foreseen = [rewritten_in(step) for step in plan.steps]
    largest = max(
        (tables for tables, _ in foreseen),
        key=lambda tables: (sum(sizes.get(table, 0) for table in tables), len(tables)),
        default=(),
    )
    return largest, any(is_unforeseen for _, is_unforeseen in foreseen)


def rewritten_in(step: Step) -> tuple[tuple[str, ...], bool]:
    """Return the same of one step that has forecasts.

    Within a transaction the old rows stay until its end, so that a table which is written
    anew twice is there three times. What was not understood does not count: the worst is
    foretold of it, and no proof of anything.
    """
    found: list[str] = []
    is_unforeseen = False
    for operation in step.operations:
        if operation.forecasts is None:
            is_unforeseen = True
            continue
        for forecast in operation.forecasts:
            if forecast.is_understood:
                found += forecast.rewrites
            else:
                is_unforeseen = True
    return tuple(found if step.rolls_back else dict.fromkeys(found)), is_unforeseen


def forecast_rewrites(
    migration: Migration, state: ProjectState, alias: str, *, backwards: bool
) -> RewriteForecast:
    """Return the same of the step that is about to begin, asked of the database as it is
    now; `state` is the one before the migration, and is left as it is. Raises nothing:
    what cannot be foretold is None.

    Over the connection of the step itself, outside of its transaction.
    """
    of_step = backward_moves if backwards else forward_moves
    moves = of_step(migration, state.clone(), renders=True)
    try:
        step = collected(describe(migration, backwards, alias), moves, alias)
        forecaster = vendor_of(alias).forecaster(connections[alias])
        return rewritten_in(with_forecast(step, forecaster))
    except DatabaseError:
        logger.warning("No forecast for %s", migration, exc_info=True)
        return None, True


_MAKES_INDEX = re.compile(
    r"\s*create\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?\"?(?P<name>\w+)",
    re.IGNORECASE,
)
_MOST_WORDS = 5000  # of raw SQL: a step that carries a dump inside names nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpactBuilder:
    """What has been seen so far."""

    tables: set[str] = field(default_factory=set)
    parents: set[str] = field(default_factory=set)  # that new foreign keys point to
    names: set[str] = field(default_factory=set)  # of indexes, or words of raw SQL
    dropped: set[str] = field(default_factory=set)  # indexes that a step takes away
    rebuilt: dict[str, str] = field(default_factory=dict)  # index to the step, concurrently

    def value(self, *, most_rewrites: int | None) -> Impact:
        """Return it as the look at the database takes it."""
        return Impact(
            tables=frozenset(self.tables),
            parents=frozenset(self.parents - self.tables),
            indexes=frozenset(self.names),
            expected_invalid=frozenset(self.dropped | set(self.rebuilt)),
            waits_for_all=bool(self.rebuilt),
            most_rewrites=most_rewrites,
        )


def touching_of(plan: Plan, migrations: list[tuple[Migration, bool]]) -> ImpactBuilder:
    """Go through the steps of a plan."""
    touching = ImpactBuilder()
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


def impact_of_plan(plan: Plan, migrations: list[tuple[Migration, bool]]) -> Impact:
    """Return what a plan has to do with.

    The names lead to tables in one state of the project, that of the database as it is:
    a table which the plan makes itself is nobody else's yet. So a plan of a thousand
    migrations takes no longer than their names.
    """
    touching = ImpactBuilder()
    if plan.mode is Mode.FAKE or not migrations:
        return NO_IMPACT
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


def impact_of_step(migration: Migration, state: ProjectState, *, backwards: bool) -> Impact:
    """Return what one step has to do with; `state` is the one before the migration, as
    Django's executor has it, and is left as it is.

    Forwards the names lead to tables in that state alone: what the step itself makes is
    nobody else's yet. Nothing is rendered, and nothing is copied.
    """
    touching = ImpactBuilder()
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
    touching: ImpactBuilder,
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
    touching: ImpactBuilder,
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
