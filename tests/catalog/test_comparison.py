"""Tests of matching a catalog with the operations of one history."""

from __future__ import annotations

from migration_route.core.enums import EffectState
from migration_route.execution.recovery.introspection import (
    compare,
    compare_end,
    with_leftover_copy,
)
from migration_route.execution.recovery.schema_marks import Effect, Mark

IN, OUT, MIDWAY, UNKNOWN = (
    EffectState.PRESENT,
    EffectState.ABSENT,
    EffectState.PARTIAL,
    EffectState.UNKNOWN,
)


def mark(kind: str, *words: str) -> Mark:
    """Return a trace of one table."""
    return Mark(kind=kind, table="shop", words=words)


TABLE, A, B = mark("table"), mark("column", "a"), mark("column", "b")
INDEX = mark("index", "a")
CREATE = Effect(gained=frozenset({TABLE, A, INDEX}), deferred=frozenset({INDEX}))
ADD = Effect(gained=frozenset({B}))
REMOVE = Effect(lost=frozenset({B}))
NOTHING = Effect()


def read(*there: Mark, of: tuple[Effect, ...]) -> tuple[EffectState, ...]:
    return compare(of, frozenset(there))


def test_operations_are_in_up_to_where_the_catalog_shows_them():
    """An operation without a trace is unknown."""
    history = (CREATE, NOTHING, ADD)
    assert read(of=history) == (OUT, UNKNOWN, OUT)
    assert read(TABLE, A, of=history) == (IN, UNKNOWN, OUT)
    assert read(TABLE, A, B, of=history) == (IN, UNKNOWN, IN)


def test_what_comes_at_the_end_is_told_apart():
    """An index of a new table is created after the last operation."""
    history = (CREATE, ADD)
    assert compare_end(history, frozenset({TABLE, A, B})) is OUT
    assert compare_end(history, frozenset({TABLE, A, B, INDEX})) is IN
    assert compare_end((ADD,), frozenset({B})) is UNKNOWN


def test_an_operation_that_is_half_done_is_midway():
    """The ones before it are present, the ones after it are absent."""
    assert read(TABLE, of=(CREATE, ADD)) == (MIDWAY, OUT)


def test_what_a_later_operation_undoes_does_not_count_against_an_earlier_one():
    """A column that is added and removed: the table alone cannot tell before from after."""
    assert read(TABLE, A, B, of=(CREATE, ADD, REMOVE)) == (IN, IN, OUT)
    assert read(TABLE, A, of=(CREATE, ADD, REMOVE)) == (IN, UNKNOWN, UNKNOWN)


def test_a_catalog_that_fits_nowhere_is_judged_operation_by_operation():
    """A user has changed the schema by hand."""
    assert read(B, of=(CREATE, ADD)) == (OUT, IN)


def test_a_copy_that_is_left_makes_the_first_operation_half_done_that_is_not_in():
    """Where all are present, or do nothing, it belongs to something else."""
    assert with_leftover_copy((IN, UNKNOWN, OUT), (False, True, False)) == (
        IN,
        UNKNOWN,
        MIDWAY,
    )
    assert with_leftover_copy((IN, UNKNOWN, OUT), (False, False, False)) == (
        IN,
        MIDWAY,
        OUT,
    )
    assert with_leftover_copy((IN, IN), (False, False)) == (IN, IN)
