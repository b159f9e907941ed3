"""Reads which operations of a migration are in a database: compares the live catalog with
the project states before and after each operation.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.backends.utils import CursorWrapper
from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation

from migration_route.conf.databases import is_in_one_transaction
from migration_route.core.enums import Direction, EffectState
from migration_route.execution.recovery.schema_marks import (
    Effect,
    Mark,
    Marker,
    effect_of,
    is_state_only,
)
from migration_route.ledger.records import StepRecord
from migration_route.planning import graph as graphs
from migration_route.planning import sources
from migration_route.planning.planner import describe_operation
from migration_route.planning.sql import Move, moves_of
from migration_route.vendors import vendor_of
from migration_route.vendors.base import CatalogReader

_Expected = tuple[frozenset[Mark], frozenset[Mark]]  # present, not yet certain


def compare(effects: Sequence[Effect], there: frozenset[Mark]) -> tuple[EffectState, ...]:
    """Return the state of each operation; `there` are the marks of the catalog. Pure.

    A later operation may undo what an earlier one did, so the catalog is compared with the
    expected marks after each number of operations. If none fits, one operation may be half
    done; if none fits even so, each is judged by its own marks.
    """
    pictures = _expected_marks(effects)
    touched = _touched(effects)
    fits = [
        count for count, picture in enumerate(pictures) if _fits(picture, there, touched)
    ]
    if fits:
        return tuple(
            _state_by_count(effect, (number < count for count in fits))
            for number, effect in enumerate(effects)
        )
    halves = [
        number
        for number, effect in enumerate(effects)
        if effect.touched and _fits(pictures[number], there, touched - effect.touched)
    ]
    if len(halves) == 1:
        return tuple(
            EffectState.PARTIAL
            if number == halves[0]
            else _state_by_count(effect, [number < halves[0]])
            for number, effect in enumerate(effects)
        )
    return tuple(_state_by_marks(effect, there) for effect in effects)


def with_leftover_copy(
    states: Sequence[EffectState], harmless: Sequence[bool]
) -> tuple[EffectState, ...]:
    """Adjust the states when the copy of a table is left that was to replace it: the first
    operation that is not in, and does something, is half done."""
    for number, (state, is_harmless) in enumerate(zip(states, harmless, strict=True)):
        if state is not EffectState.PRESENT and not is_harmless:
            return (*states[:number], EffectState.PARTIAL, *states[number + 1 :])
    return tuple(states)


def compare_end(effects: Sequence[Effect], there: frozenset[Mark]) -> EffectState:
    """Return the state of what the schema editor defers to the end."""
    last, unsure = _expected_marks(effects)[-1]
    found = unsure & there
    if not unsure or not last <= there | unsure:
        return EffectState.UNKNOWN if not unsure else EffectState.ABSENT
    if found == unsure:
        return EffectState.PRESENT
    return EffectState.PARTIAL if found else EffectState.ABSENT


def _touched(effects: Iterable[Effect]) -> frozenset[Mark]:
    return frozenset(mark for effect in effects for mark in effect.touched)


def _expected_marks(effects: Sequence[Effect]) -> list[_Expected]:
    """Return the touched marks that are present before and after each operation."""
    there: frozenset[Mark] = frozenset()
    seen: frozenset[Mark] = frozenset()
    for effect in effects:
        there |= effect.lost - seen
        seen |= effect.touched
    unsure: frozenset[Mark] = frozenset()
    found = [(there, unsure)]
    for effect in effects:
        there = (there - effect.lost) | effect.gained
        unsure = (unsure - effect.touched) | effect.deferred
        found.append((there, unsure))
    return found


def _fits(picture: _Expected, there: frozenset[Mark], marks: frozenset[Mark]) -> bool:
    expected, unsure = picture
    sure = marks - unsure
    return expected & sure == there & sure


def _state_by_count(effect: Effect, answers: Iterable[bool]) -> EffectState:
    found = set(answers)
    if not effect.touched or len(found) > 1:
        return EffectState.UNKNOWN
    return EffectState.PRESENT if found.pop() else EffectState.ABSENT


def _state_by_marks(effect: Effect, there: frozenset[Mark]) -> EffectState:
    gained, lost = effect.gained - effect.deferred, effect.lost
    if not gained | lost:
        return EffectState.UNKNOWN
    done = {mark in there for mark in gained} | {mark not in there for mark in lost}
    if len(done) > 1:
        return EffectState.PARTIAL
    return EffectState.PRESENT if done.pop() else EffectState.ABSENT


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCatalog:
    """The contents of the catalog."""

    marks: frozenset[Mark]
    invalid: frozenset[Mark]  # indexes that exist and are not used
    defaults: frozenset[Mark]  # columns that have one in the database
    has_copy: bool  # the copy of a table that is being rebuilt is still present


def read_live_catalog(alias: str, tables: Collection[str]) -> LiveCatalog:
    """Return what the catalog has of some tables, named as in the marks.

    Reads through `connections[alias]`. Raises the driver's errors.
    """
    connection = connections[alias]
    reader = vendor_of(alias).catalog
    marks: set[Mark] = set()
    invalid: set[Mark] = set()
    defaults: set[Mark] = set()
    with connection.cursor() as cursor:
        names: list[str] = connection.introspection.table_names(cursor)
        for name in names:
            if (table := reader.stored(name)) in tables:
                broken = reader.invalid_indexes(cursor, name)
                invalid |= {_named(table, reader, index) for index in broken}
                marks |= set(_of_table(cursor, reader, name, broken))
                defaults |= {
                    Mark(kind="default", table=table, words=(reader.stored(column),))
                    for column in reader.defaults(cursor, name)
                }
    return LiveCatalog(
        marks=frozenset(marks),
        invalid=frozenset(invalid),
        defaults=frozenset(defaults),
        has_copy=reader.has_rebuild_copy(names),
    )


def _named(table: str, reader: CatalogReader, name: str) -> Mark:
    return Mark(kind="named", table=table, words=(reader.stored(name),))


def _of_table(
    cursor: CursorWrapper, reader: CatalogReader, name: str, broken: Collection[str]
) -> Iterator[Mark]:
    table = reader.stored(name)
    yield Mark(kind="table", table=table)
    for column, not_null in reader.columns(cursor, name).items():
        words = (reader.stored(column),)
        yield Mark(kind="column", table=table, words=words)
        if not_null:
            yield Mark(kind="not_null", table=table, words=words)
    constraints = cursor.db.introspection.get_constraints(cursor, name)
    for constraint, facts in constraints.items():
        if constraint in broken:
            continue
        yield _named(table, reader, constraint)
        columns = tuple(map(reader.stored, filter(None, facts["columns"] or ())))
        for kind in _kinds(facts):
            yield Mark(kind=kind, table=table, words=columns)


def _kinds(facts: dict[str, Any]) -> Iterator[str]:
    if facts["primary_key"]:
        yield "primary_key"
    elif facts["unique"]:
        yield "unique"
    elif facts["index"]:
        yield "index"
    if facts["foreign_key"]:
        yield "foreign_key"


logger = logging.getLogger("migration_route.execution")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationReading:
    """The catalog's evidence of one operation."""

    position: int  # in the migration's list, from 0
    description: str
    state: EffectState
    is_harmless: bool  # it does nothing to the database: safe to repeat
    has_own_transaction: bool  # what it wrote is present completely or not at all
    is_only_invalid: bool  # all that is left of it is an invalid index
    lacks_only_a_drop: bool  # of the default that filled a column: safe to repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReading:
    """The catalog's evidence of a step: its operations in the order of execution."""

    operations: tuple[OperationReading, ...]
    end: EffectState  # of what the schema editor defers to the end of the migration


@graphs.without_translations()
def read_step(alias: str, step: StepRecord) -> StepReading | None:
    """Compare the migration of a step with the catalog, through `connections[alias]`.

    Returns None if that is not possible: its source is not the one with this digest, the
    migrations do not load, or the database does not answer.
    """
    try:
        graph = graphs.read_graph(alias)
        migration = graph.loader.disk_migrations.get((step.app, step.name))
        if (
            migration is None
            or sources.source_digest(type(migration).__module__) != step.digest
            or sources.is_stale(type(migration).__module__)
        ):
            return None
        backwards = step.direction is Direction.BACKWARDS
        graph = graphs.read_graph_of(alias, [migration])
        return _read(alias, migration, moves_of(graph, migration, backwards))
    except Exception:
        # A state that can no longer be built, or a database that is gone: the run is then
        # concluded without the catalog, with less evidence.
        logger.warning("Cannot compare %s with the catalog.", step.label, exc_info=True)
        return None


def _read(alias: str, migration: Migration, moves: list[Move]) -> StepReading:
    marker = Marker(alias)
    effects = [effect_of(move, marker) for move in moves]
    live = read_live_catalog(
        alias, {mark.table for effect in effects for mark in effect.touched}
    )
    states = compare(effects, live.marks)
    if live.has_copy and not _rolls_back(migration, alias):
        states = with_leftover_copy(states, [is_state_only(move[0]) for move in moves])
    # By position, not by object: a migration may list one operation more than once.
    positions = list(range(len(moves)))
    if moves and moves[0][-1]:
        positions.reverse()
    return StepReading(
        operations=tuple(
            OperationReading(
                position=position,
                description=describe_operation(move[0]),
                state=_with_leftovers(effect, state, live),
                is_harmless=is_state_only(move[0]),
                has_own_transaction=has_own_transaction(migration, move[0], alias),
                is_only_invalid=state is EffectState.ABSENT
                and bool(effect.gained & live.invalid),
                lacks_only_a_drop=state is EffectState.PRESENT
                and bool(effect.passing & live.defaults),
            )
            for position, move, effect, state in zip(
                positions, moves, effects, states, strict=True
            )
        ),
        end=compare_end(effects, live.marks),
    )


def _with_leftovers(effect: Effect, state: EffectState, live: LiveCatalog) -> EffectState:
    """Classify as half done what has left an unused index, or a default that was to be
    dropped."""
    if state is EffectState.ABSENT and effect.gained & live.invalid:
        return EffectState.PARTIAL
    if state is EffectState.PRESENT and effect.passing & live.defaults:
        return EffectState.PARTIAL
    return state


def _rolls_back(migration: Migration, alias: str) -> bool:
    return is_in_one_transaction(alias, atomic=migration.atomic)


def has_own_transaction(migration: Migration, operation: Operation, alias: str) -> bool:
    """Return whether Django runs this operation in a transaction of its own
    (`Migration.apply`)."""
    if _rolls_back(migration, alias):
        return False
    return bool(operation.atomic or (migration.atomic and operation.atomic is not False))
