"""Which operations of a migration are in this database?"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from django.db.migrations import Migration
from django.db.migrations.operations.base import Operation

from migration_route.catalog.comparison import compare, compare_end, with_copy_left
from migration_route.catalog.effects import Effect, does_nothing, effect_of
from migration_route.catalog.live import Live, read_live
from migration_route.catalog.marks import Marker
from migration_route.connecting import is_in_one_transaction
from migration_route.planning import graph as graphs
from migration_route.planning import sources
from migration_route.planning.planner import describe_operation
from migration_route.planning.states import Move, moves_of
from migration_route.vocabulary import Presence

logger = logging.getLogger("migration_route.catalog")


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationReading:
    """What the catalog says of one operation."""

    position: int  # in the migration's list, from 0
    description: str
    state: Presence
    is_harmless: bool  # it does nothing to the database: to repeat it is safe
    has_own_transaction: bool  # what it wrote is there as a whole, or not at all
    is_only_invalid: bool  # all that is left of it is an index that nobody uses
    lacks_only_a_drop: bool  # of the default that has filled a column: to repeat it is safe


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReading:
    """What the catalog says of a step: its operations in the order of execution."""

    operations: tuple[OperationReading, ...]
    end: Presence  # of what the schema editor keeps for the end of the migration


@graphs.without_translations()
def read_step(
    alias: str,
    *,
    app: str,
    name: str,
    backwards: bool,
    digest: str,
) -> StepReading | None:
    """Hold a migration against the catalog, through `connections[alias]`.

    Returns None where that cannot be done: its source is not the one with this digest,
    the migrations do not load, or the database does not answer.
    """
    try:
        graph = graphs.read_graph(alias)
        migration = graph.loader.disk_migrations.get((app, name))
        if (
            migration is None
            or sources.source_digest(type(migration).__module__) != digest
            or sources.is_stale(type(migration).__module__)
        ):
            return None
        graph = graphs.read_graph_of(alias, [migration])
        return _read(alias, migration, moves_of(graph, migration, backwards))
    except Exception:
        # A state that cannot be built any more, a database that has gone: whoever
        # concludes a run does so without the catalog then, and says less.
        logger.warning("%s.%s cannot be compared", app, name, exc_info=True)
        return None


def _read(alias: str, migration: Migration, moves: list[Move]) -> StepReading:
    marker = Marker(alias)
    effects = [effect_of(move, marker) for move in moves]
    live = read_live(alias, {mark.table for effect in effects for mark in effect.touched})
    states = compare(effects, live.marks)
    if live.has_copy and not _is_undone_as_a_whole(migration, alias):
        states = with_copy_left(states, [does_nothing(move[0]) for move in moves])
    # By place, not by object: a migration may list one operation more than once.
    positions = list(range(len(moves)))
    if moves and moves[0][-1]:
        positions.reverse()
    return StepReading(
        operations=tuple(
            OperationReading(
                position=position,
                description=describe_operation(move[0]),
                state=_with_what_is_left(effect, state, live),
                is_harmless=does_nothing(move[0]),
                has_own_transaction=has_own_transaction(migration, move[0], alias),
                is_only_invalid=state is Presence.OUT
                and bool(effect.gained & live.invalid),
                lacks_only_a_drop=state is Presence.IN
                and bool(effect.passing & live.defaults),
            )
            for position, move, effect, state in zip(
                positions, moves, effects, states, strict=True
            )
        ),
        end=compare_end(effects, live.marks),
    )


def _with_what_is_left(effect: Effect, state: Presence, live: Live) -> Presence:
    """Call half done what has left an index that is not used, or a default that was to
    go again."""
    if state is Presence.OUT and effect.gained & live.invalid:
        return Presence.MIDWAY
    if state is Presence.IN and effect.passing & live.defaults:
        return Presence.MIDWAY
    return state


def _is_undone_as_a_whole(migration: Migration, alias: str) -> bool:
    return is_in_one_transaction(alias, atomic=migration.atomic)


def has_own_transaction(migration: Migration, operation: Operation, alias: str) -> bool:
    """Tell whether Django puts this operation alone into a transaction
    (`Migration.apply`)."""
    if _is_undone_as_a_whole(migration, alias):
        return False
    return bool(operation.atomic or (migration.atomic and operation.atomic is not False))
