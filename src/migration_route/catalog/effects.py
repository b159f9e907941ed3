"""What does each operation of a migration change that a catalog shows?"""

from __future__ import annotations

from dataclasses import dataclass, field

from django.db.migrations import RunPython, RunSQL, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from migration_route.catalog.marks import Mark, Marker
from migration_route.planning.states import Move

_MAY_COME_LATER = frozenset({"unique", "index", "foreign_key", "named"})
_NOTHING: frozenset[Mark] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """The marks that one operation makes and takes away."""

    gained: frozenset[Mark] = field(default=_NOTHING)
    lost: frozenset[Mark] = field(default=_NOTHING)
    deferred: frozenset[Mark] = field(default=_NOTHING)  # of `gained`: maybe at the end
    passing: frozenset[Mark] = field(default=_NOTHING)  # there only while it is under way

    @property
    def touched(self) -> frozenset[Mark]:
        """Return every mark that it changes."""
        return self.gained | self.lost


def effect_of(move: Move, marker: Marker) -> Effect:
    """Return the effect of an operation; empty where no catalog can show one."""
    operation, app, before, after, backwards = move
    if isinstance(operation, RunPython | RunSQL):
        return Effect()  # what its author says of the state is not what it does
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
    backwards: bool,  # noqa: FBT001 - the last word of a move
) -> tuple[ProjectState, ProjectState]:
    """Return the states around what it does to the database, as Django makes them."""
    start = (after if backwards else before).clone()
    end = start.clone()
    for part in operation.database_operations:
        part.state_forwards(app, end)
    return (end, start) if backwards else (start, end)


def _passing(gained: frozenset[Mark]) -> frozenset[Mark]:
    """Return the defaults that fill a new column, or one that may no longer be NULL: the
    schema editor drops each by a statement of its own."""
    return frozenset(
        Mark(kind="default", table=mark.table, words=mark.words)
        for mark in gained
        if mark.kind in {"column", "not_null"}
    )


def _deferred(gained: frozenset[Mark], lost: frozenset[Mark]) -> frozenset[Mark]:
    """Return what the schema editor may keep for the end of the migration: what comes
    with a new table or a new column."""
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


def does_nothing(operation: Operation) -> bool:
    """Tell whether it changes the state of the project and nothing else."""
    if isinstance(operation, SeparateDatabaseAndState):
        return all(map(does_nothing, operation.database_operations))
    return type(operation).__name__ in {"AlterModelOptions", "AlterModelManagers"}
