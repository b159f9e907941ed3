"""Compares the statements that a rehearsed step sends with the SQL of its plan.

A plan collects SQL without executing it. The comparison shows whether exactly that is sent:
an operation can send more than it collects, and another package can change what Django
sends. Values are not compared, because a default can be computed for each execution, and
are not shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from django.db.migrations import Migration
from django.db.migrations.state import ProjectState

from migration_route.planning.plan import Step
from migration_route.planning.planner import describe
from migration_route.planning.sql import backward_moves, forward_moves, with_collected_sql
from migration_route.planning.states import copy_of
from migration_route.vendors.sql_lexer import Dialect, LexemeKind, dialect_of, lexemes
from migration_route.vendors.sql_statements import (
    TRANSACTION_WORDS,
    first_word,
    only_reads,
)

_VALUE = "?"
_VALUES = frozenset({LexemeKind.LITERAL, LexemeKind.NUMBER})
_VALUE_WORDS = frozenset({"null", "true", "false"})
_BEFORE_SIGN = frozenset({"=", "(", ",", "DEFAULT"})
_SKIPPED = frozenset({LexemeKind.SPACE, LexemeKind.COMMENT})
_MOST_LINES = 20  # of one step
_LONGEST_LINE = 300


def plan_step(
    migration: Migration, state: ProjectState, alias: str, *, backwards: bool
) -> Step:
    """Return the step with the SQL that is planned for the database as it is now.

    `state` is the one before the migration, and is not changed.
    """
    of_step = backward_moves if backwards else forward_moves
    moves = of_step(migration, copy_of(state))
    return with_collected_sql(describe(migration, backwards, alias), moves, alias)


def sql_differences(
    planned: Step, sent: list[list[str]], sent_at_end: list[str], *, vendor: str
) -> tuple[str, ...]:
    """Return the statements that were planned and not sent, and the reverse, as lines.

    `sent` has the statements of each operation in the order of execution. Operations
    without planned SQL, such as Python code, are not compared; they can defer statements,
    so then the end of the step is not compared either.
    """
    operations, end = planned.operations[: len(sent)], planned.operations[len(sent) :]
    expected: Counter[str] = Counter()
    found: Counter[str] = Counter()
    dialect = dialect_of(vendor)
    known = [not (one.opaque or one.sql is None) for one in operations]
    for operation, statements, is_known in zip(operations, sent, known, strict=True):
        if is_known:
            expected.update(_writes(operation.sql or (), dialect))
            found.update(_writes(statements, dialect))
    if all(known) and all(one.sql is not None for one in end):
        for one in end:
            expected.update(_writes(one.sql or (), dialect))
        found.update(_writes(sent_at_end, dialect))
    lines = [
        *_lines("planned, not sent", expected - found),
        *_lines("sent, not planned", found - expected),
    ]
    if len(lines) > _MOST_LINES:
        lines[_MOST_LINES - 1 :] = [f"and {len(lines) - _MOST_LINES + 1} more"]
    return tuple(lines)


def _lines(what: str, statements: Counter[str]) -> Iterator[str]:
    for text, times in sorted(statements.items()):
        often = f" ({times} times)" if times > 1 else ""
        is_long = len(text) > _LONGEST_LINE
        yield f"{what}{often}: {text[:_LONGEST_LINE]}{'…' if is_long else ''}"


def _writes(statements: Iterable[str], dialect: Dialect) -> Iterator[str]:
    """Yield the statements that may change something, without their values."""
    for sql in statements:
        shape = "" if only_reads(sql) else without_values(sql, dialect)
        if shape and first_word(shape) not in TRANSACTION_WORDS:
            yield shape


def without_values(sql: str, dialect: Dialect) -> str:
    """Return a statement with "?" for each value and placeholder, and single spaces.

    The type to which the driver of PostgreSQL casts a value is part of the value.
    """
    words: list[str] = []
    is_type = False  # the next word follows the "::" behind a value
    for lexeme in lexemes(sql.replace("%s", _VALUE).replace("%%", "%"), dialect):
        if lexeme.kind in _SKIPPED:
            continue
        is_value = lexeme.kind in _VALUES or lexeme.text.lower() in _VALUE_WORDS
        if is_type or (lexeme.text == "::" and words[-1:] == [_VALUE]):
            is_type = not is_type
            continue
        if is_value and words[-1:] == ["-"] and set(words[-2:-1]) & _BEFORE_SIGN:
            words.pop()  # the sign of a negative number
        words.append(_VALUE if is_value else lexeme.text)
    return " ".join(words).rstrip("; ")
