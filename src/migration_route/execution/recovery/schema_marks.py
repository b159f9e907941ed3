"""The marks of a project state: what must exist in the catalog, and what each operation of
a migration changes in it.

Marks follow the rules of Django's schema editor: which models have a table here, which
column an index, which constraint this database supports. Types, defaults, collations and
comments leave no mark: what a database reports as a type is not what was requested
("numeric(5, 2)", "tinyint(1)", "int(11)"), so a change of the type alone stays unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations import RunPython, RunSQL, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import NOT_PROVIDED, GeneratedField, Model

from migration_route.planning.sql import Move
from migration_route.planning.states import advance
from migration_route.vendors import vendor_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One thing that a catalog has or does not have."""

    kind: str  # table, column, not_null, primary_key, unique, index, foreign_key, named
    table: str
    words: tuple[str, ...] = ()  # columns, or the name of an index or a constraint


class Marker:
    """Derives the marks of project states for one database."""

    def __init__(self, alias: str) -> None:
        self._alias = alias
        self._connection: BaseDatabaseWrapper = connections[alias]
        self._stored = vendor_of(alias).catalog.stored
        # Never entered: it only answers what it would do.
        self._editor: Any = self._connection.schema_editor(collect_sql=True, atomic=False)
        self._editor.deferred_sql = []

    def marks(self, state: ProjectState) -> frozenset[Mark]:
        """Return everything that must exist in this state."""
        models: list[Any] = state.apps.get_models(
            include_auto_created=True, include_swapped=True
        )
        found = (self._of_model(model) for model in models if self._has_table(model))
        return frozenset(mark for marks in found for mark in marks)

    def defaults(self, state: ProjectState) -> frozenset[Mark]:
        """Return a mark for each column that has a default in the database."""
        return frozenset(
            self._mark("default", model._meta.db_table, str(field.column))
            for model in state.apps.get_models(include_auto_created=True)
            for field in model._meta.local_concrete_fields
            if field.db_default is not NOT_PROVIDED
        )

    def _has_table(self, model: Any) -> bool:
        """Return whether Django creates the table of this model in this database."""
        owner = model._meta.auto_created or model  # of a table between two models
        return all(
            one._meta.can_migrate(self._connection)
            and router.allow_migrate_model(self._alias, one)
            for one in (owner, model)
        )

    def _of_model(self, model: type[Model]) -> Iterator[Mark]:
        table = model._meta.db_table
        yield self._mark("table", table)
        for column in model._meta.local_concrete_fields:
            yield from self._of_field(model, column)
        # What has a single field is yielded with the field.
        for names in (*model._meta.unique_together, *self._index_together(model)):
            columns = [_column(model, name) for name in names]
            together = names in model._meta.unique_together
            yield self._mark("unique" if together else "index", table, *columns)
        features = self._connection.features
        for index in model._meta.indexes:
            if not index.contains_expressions or features.supports_expression_indexes:
                yield self._mark("named", table, index.name)
        for constraint in model._meta.constraints:
            if constraint.create_sql(model, self._editor):
                yield self._mark("named", table, constraint.name)

    def _index_together(self, model: type[Model]) -> tuple[tuple[str, ...], ...]:
        return tuple(map(tuple, getattr(model._meta, "index_together", ())))

    def _of_field(self, model: type[Model], field: Any) -> Iterator[Mark]:
        table = model._meta.db_table
        if field.db_parameters(connection=self._connection)["type"] is None:
            return
        yield self._mark("column", table, field.column)
        if field.primary_key:
            yield self._mark("primary_key", table, field.column)
            return  # it implies NOT NULL and unique
        if not field.null and not isinstance(field, GeneratedField):
            yield self._mark("not_null", table, field.column)
        if field.unique:
            yield self._mark("unique", table, field.column)
        elif self._editor._field_should_be_indexed(model, field):
            yield self._mark("index", table, field.column)
        supports = self._connection.features.supports_foreign_keys
        if field.remote_field and field.db_constraint and supports:
            yield self._mark("foreign_key", table, field.column)

    def _mark(self, kind: str, table: str, *words: str) -> Mark:
        return Mark(
            kind=kind, table=self._stored(table), words=tuple(map(self._stored, words))
        )


def _column(model: Any, field: str) -> str:
    return str(model._meta.get_field(field).column)


_MAY_COME_LATER = frozenset({"unique", "index", "foreign_key", "named"})
_NOTHING: frozenset[Mark] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The marks that one operation adds and removes."""

    gained: frozenset[Mark] = field(default=_NOTHING)
    lost: frozenset[Mark] = field(default=_NOTHING)
    deferred: frozenset[Mark] = field(
        default=_NOTHING
    )  # of `gained`: possibly created at the end
    passing: frozenset[Mark] = field(
        default=_NOTHING
    )  # present only while the operation runs

    @property
    def touched(self) -> frozenset[Mark]:
        """Every mark that the operation changes."""
        return self.gained | self.lost


def effect_of(move: Move, marker: Marker) -> Effect:
    """Return the effect of an operation; empty if no catalog can show one."""
    operation, app, before, after, backwards = move
    if isinstance(operation, RunPython | RunSQL):
        return Effect()  # it may do more or less than its state says
    if isinstance(operation, SeparateDatabaseAndState):
        before, after = _around(operation, app, before, after, backwards)
    there, wanted = marker.marks(before), marker.marks(after)
    gained, lost = wanted - there, there - wanted
    return Effect(
        gained=gained,
        lost=lost,
        deferred=_deferred(gained, lost),
        passing=_passing(gained) - marker.defaults(after),
    )


def _around(
    operation: SeparateDatabaseAndState,
    app: str,
    before: ProjectState,
    after: ProjectState,
    backwards: bool,  # noqa: FBT001 - the last item of a move
) -> tuple[ProjectState, ProjectState]:
    """Return the states around the database part of an operation, as Django computes
    them."""
    start = (after if backwards else before).clone()
    end = start.clone()
    for part in operation.database_operations:
        advance(part, app, end)
    return (end, start) if backwards else (start, end)


def _passing(gained: frozenset[Mark]) -> frozenset[Mark]:
    """Return the defaults that fill a new column, or one that becomes NOT NULL: the schema
    editor drops each with a separate statement."""
    return frozenset(
        Mark(kind="default", table=mark.table, words=mark.words)
        for mark in gained
        if mark.kind in {"column", "not_null"}
    )


def _deferred(gained: frozenset[Mark], lost: frozenset[Mark]) -> frozenset[Mark]:
    """Return what the schema editor may defer to the end of the migration: what comes with
    a new table or a new column."""
    if lost:
        return _NOTHING
    tables = {mark.table for mark in gained if mark.kind == "table"}
    columns = {(mark.table, mark.words) for mark in gained if mark.kind == "column"}
    return frozenset(
        mark
        for mark in gained
        if mark.kind in _MAY_COME_LATER
        and (mark.table in tables or (mark.table, mark.words) in columns)
    )


def is_state_only(operation: Operation) -> bool:
    """Return whether the operation changes only the state of the project."""
    if isinstance(operation, SeparateDatabaseAndState):
        return all(map(is_state_only, operation.database_operations))
    return type(operation).__name__ in {"AlterModelOptions", "AlterModelManagers"}
