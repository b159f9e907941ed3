"""Computes which tables and indexes the steps of a plan affect, how many rows those tables
have, and how much the steps rewrite.

The impact comes from the names in the operations and the words in their raw SQL; no SQL is
generated. Rewrites have a quick upper bound by the kinds of the operations, and an exact
answer by the forecasts of their statements, for when there is not enough space for the
upper bound.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from django.apps import apps
from django.db import DatabaseError, connections
from django.db.migrations import CreateModel, Migration, RunSQL
from django.db.migrations.operations.base import Operation
from django.db.migrations.operations.models import ModelOperation
from django.db.migrations.state import ProjectState
from django.db.models import Field

from migration_route.conf.databases import using_private_connection
from migration_route.core.enums import Mode
from migration_route.core.errors import RouteError
from migration_route.core.values import NO_IMPACT, Impact
from migration_route.planning import graph as graphs
from migration_route.planning.changes.raw_sql import texts_of
from migration_route.planning.changes.schema import table_of
from migration_route.planning.graph import read_graph
from migration_route.planning.phases import MigrationPlan
from migration_route.planning.plan import Plan, Step
from migration_route.planning.planner import describe
from migration_route.planning.recorders import read_recorder
from migration_route.planning.sql import (
    backward_moves,
    forward_moves,
    plan_moves,
    state_before,
    with_collected_sql,
    with_forecast,
)
from migration_route.planning.states import advance, copy_of
from migration_route.vendors import vendor_of

logger = logging.getLogger("migration_route.planning")

RewriteForecast = tuple[tuple[str, ...] | None, bool]
"""The tables that are rewritten, each as often as copies of it exist at one time; and
whether some of the step has no forecast."""

_KNOWN = ("django.db.migrations.operations", "django.contrib.postgres.operations")
# No database rewrites an existing table for these.
_NEVER = frozenset(
    (
        *("CreateModel", "DeleteModel"),
        *("AlterModelManagers", "AlterModelOptions", "AlterModelTableComment"),
    )
)


def most_rewrites(
    migration: Migration, states: tuple[ProjectState, ...], *, backwards: bool
) -> int | None:
    """Return how often, at most, the tables that a migration names are rewritten within one
    transaction; None where other tables may be. What Python code does is not counted."""
    most = 0
    for operation in migration.operations:
        for part in parts_of(operation):
            count = _most_of(part, migration.app_label, states, backwards=backwards)
            if count is None:
                return None
            most += count
    return most if migration.atomic else min(most, 1)


def most_in_one_step(counts: Iterable[int | None]) -> int | None:
    """Return the maximum over several steps: each frees its space at its end."""
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
        return sum(text.count(";") + 1 for text in texts_of(operation, backwards=backwards))
    if kind.__name__ == "RenameModel" or _alters_references(operation, app, states):
        return None
    return 1


def _alters_references(
    operation: Operation, app: str, states: tuple[ProjectState, ...]
) -> bool:
    """Return whether columns of other tables may change together with this field."""
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
    """Return the parts of an operation that reach the database."""
    found: Iterable[Operation] = getattr(operation, "database_operations", [operation])
    return found


def rewritten_by(plan: Plan) -> RewriteForecast:
    """Return what the step that needs the most space rewrites, by the forecasts and sizes
    in the plan."""
    sizes = {size.table: size.bytes or 0 for size in plan.tables}
    forecasts = [rewritten_in(step) for step in plan.steps]
    largest = max(
        (tables for tables, _ in forecasts),
        key=lambda tables: (sum(sizes.get(table, 0) for table in tables), len(tables)),
        default=(),
    )
    return largest, any(is_incomplete for _, is_incomplete in forecasts)


def rewritten_in(step: Step) -> tuple[tuple[str, ...], bool]:
    """Return the same of one step that has forecasts.

    Within a transaction the old rows stay until its end, so a table that is rewritten twice
    exists three times. A statement that was not understood does not count: its forecast is
    the worst case, which proves nothing.
    """
    found: list[str] = []
    is_incomplete = False
    for operation in step.operations:
        if operation.forecasts is None:
            is_incomplete = True
            continue
        for forecast in operation.forecasts:
            if forecast.is_understood:
                found += forecast.rewrites
            else:
                is_incomplete = True
    return tuple(found if step.rolls_back else dict.fromkeys(found)), is_incomplete


def forecast_rewrites(
    migration: Migration, state: ProjectState, alias: str, *, backwards: bool
) -> RewriteForecast:
    """Return the same of the step that is about to start, by the database as it is now.

    `state` is the one before the migration, and is not changed. The connection of the step
    itself is used, outside its transaction. A database error is not raised: without a
    forecast, the tables are None.
    """
    of_step = backward_moves if backwards else forward_moves
    moves = of_step(migration, copy_of(state))
    try:
        step = with_collected_sql(describe(migration, backwards, alias), moves, alias)
        forecaster = vendor_of(alias).forecaster(connections[alias])
        return rewritten_in(with_forecast(step, forecaster))
    except DatabaseError:
        logger.warning("No forecast for %s", migration, exc_info=True)
        return None, True


_MAKES_INDEX = re.compile(
    r"\s*create\s+(?:unique\s+)?index\s+concurrently\s+(?:if\s+not\s+exists\s+)?\"?(?P<name>\w+)",
    re.IGNORECASE,
)
_MOST_WORDS = 5000  # of raw SQL: a step that contains a dump names nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpactBuilder:
    """Collects the impact, operation by operation."""

    tables: set[str] = field(default_factory=set)
    parents: set[str] = field(default_factory=set)  # that new foreign keys reference
    names: set[str] = field(default_factory=set)  # of indexes, or all words of raw SQL
    dropped: set[str] = field(default_factory=set)  # indexes that a step drops
    rebuilt: dict[str, str] = field(default_factory=dict)  # index to step, concurrently

    def add_migration(
        self, migration: Migration, states: tuple[ProjectState, ...], *, backwards: bool
    ) -> None:
        """Add each operation of a migration; names are looked up in these states."""
        app, label = migration.app_label, f"{migration.app_label}.{migration.name}"
        for operation in migration.operations:
            self.add(operation, app, label, states, backwards=backwards)

    def add(
        self,
        operation: Operation,
        app: str,
        label: str,
        states: tuple[ProjectState, ...],
        *,
        backwards: bool,
    ) -> None:
        """Add what the parts of an operation affect."""
        for part in parts_of(operation):
            for state in states:
                self.tables.update(_tables(part, app, state))
            self.parents.update(_parents(part, app, states))
            self._add_indexes(part, label, backwards=backwards)
            self._add_words(part, label, backwards=backwards)

    def _add_indexes(self, operation: Operation, label: str, *, backwards: bool) -> None:
        kind = type(operation).__name__
        index = getattr(getattr(operation, "index", None), "name", None)
        if index is None and kind.startswith("RemoveIndex"):
            index = operation.name  # type: ignore[attr-defined]
        if not index:
            return
        self.names.add(index)
        if kind.startswith("AddIndex") is backwards:
            self.dropped.add(index)
        elif kind.endswith("Concurrently") and index not in self.dropped:
            self.rebuilt[index] = label

    def _add_words(self, operation: Operation, label: str, *, backwards: bool) -> None:
        for raw in texts_of(operation, backwards=backwards):
            words = re.findall(r"\w+", raw)[:_MOST_WORDS]
            self.names.update(words)
            self.tables.update(words)
            if made := _MAKES_INDEX.match(raw):
                self.rebuilt[made["name"]] = label

    def value(self, *, most_rewrites: int | None) -> Impact:
        return Impact(
            tables=frozenset(self.tables),
            parents=frozenset(self.parents - self.tables),
            indexes=frozenset(self.names),
            expected_invalid=frozenset(self.dropped | set(self.rebuilt)),
            waits_for_all=bool(self.rebuilt),
            most_rewrites=most_rewrites,
        )


def collect_impact(plan: Plan, migrations: MigrationPlan) -> ImpactBuilder:
    """Collect the impact of a plan, with the tables in the states around each operation."""
    builder = ImpactBuilder()
    if plan.mode is Mode.FAKE or not migrations:
        return builder
    graph = graphs.read_graph_of(plan.database, [migration for migration, _ in migrations])
    for migration, moves in plan_moves(graph, migrations):
        label = f"{migration.app_label}.{migration.name}"
        for operation, app, before, after, backwards in moves:
            builder.add(operation, app, label, (before, after), backwards=backwards)
    return builder


def impact_of_plan(plan: Plan, migrations: MigrationPlan) -> Impact:
    """Return the impact of a plan.

    Names are looked up in one project state, that of the database as it is: no other
    session uses a table that the plan creates. So even a plan of a thousand migrations
    takes no longer than reading their names.
    """
    builder = ImpactBuilder()
    if plan.mode is Mode.FAKE or not migrations:
        return NO_IMPACT
    graph = graphs.read_graph_of(plan.database, [migration for migration, _ in migrations])
    backwards = migrations[0][1]
    now = state_before(graph, [] if backwards else migrations)
    for migration, is_back in migrations:
        builder.add_migration(migration, (now,), backwards=is_back)
    return builder.value(
        most_rewrites=most_in_one_step(
            most_rewrites(migration, (now,), backwards=is_back)
            for migration, is_back in migrations
        )
    )


def impact_of_step(migration: Migration, state: ProjectState, *, backwards: bool) -> Impact:
    """Return the impact of one step.

    `state` is the one before the migration, as Django's executor has it, and is not
    changed. Forwards, names are looked up in that state alone: no other session uses what
    the step itself creates. Models are not rendered, and only backwards copied.
    """
    builder = ImpactBuilder()
    states: tuple[ProjectState, ...] = (state,)
    if backwards:
        after = copy_of(state)
        for operation in migration.operations:
            advance(operation, migration.app_label, after)
        states = (state, after)
    builder.add_migration(migration, states, backwards=backwards)
    most = most_rewrites(migration, states, backwards=backwards)
    return builder.value(most_rewrites=most)


def _tables(operation: Operation, app: str, state: ProjectState) -> Iterator[str]:
    """Yield the tables of the models that an operation names."""
    # With a `model_name`, the other names are of a field, an index or a constraint.
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
    """Yield the tables that the fields of an operation reference."""
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


Key = tuple[str, str]


def rows_of_steps(alias: str, keys: Collection[Key]) -> Mapping[Key, int]:
    """Return the current rows of the tables that each migration changes, as the database
    estimates them.

    A step is left out if its tables are not known from the models of this code, as those of
    raw SQL and Python are not, if a size is not known, or if the database does not answer.
    """
    if not keys:
        return {}
    try:
        found = read_graph(alias, read_recorder(alias)).loader.disk_migrations
        by_step = {key: _tables_of(found[key]) for key in keys if key in found}
        known = {key: tables for key, tables in by_step.items() if tables}
        wanted = frozenset().union(*known.values())
        with using_private_connection(alias) as connection:
            with connection.cursor() as cursor:
                existing = wanted & set(connection.introspection.table_names(cursor))
            forecaster = vendor_of(alias).forecaster(connection)
            sizes = {size.table: size.rows for size in forecaster.sizes(existing)}
    except (DatabaseError, RouteError):
        logger.info("No table sizes of %s", alias, exc_info=True)
        return {}
    rows: dict[Key, int] = {}
    for key, tables in known.items():
        # A table that an earlier step of the plan creates has no rows yet.
        counts = [sizes.get(table) for table in tables & existing]
        if counts and None not in counts:
            rows[key] = sum(filter(None, counts))
    return rows


def _tables_of(migration: Migration) -> frozenset[str]:
    """Return the tables of the models that a migration changes; none if they are not all
    known."""
    tables = set()
    for operation in migration.operations:
        for part in parts_of(operation):
            if isinstance(part, CreateModel):
                continue
            if isinstance(part, RunSQL) or not part.reduces_to_sql:
                return frozenset()
            name = getattr(part, "model_name", None)
            if name is None and isinstance(part, ModelOperation):
                name = part.name
            try:
                tables.add(apps.get_model(migration.app_label, name or "")._meta.db_table)
            except (LookupError, ValueError):
                return frozenset()
    return frozenset(tables)
