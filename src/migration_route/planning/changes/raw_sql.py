"""Reads what the text of a RunSQL changes, statement by statement.

It uses the patterns of `vendors.sql_statements`; statements that they do not match are
ignored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.db.migrations import RunSQL
from django.db.migrations.operations.base import Operation

from migration_route.planning.changes.types import ChangeKind, SchemaChange
from migration_route.vendors.sql_lexer import dialect_of
from migration_route.vendors.sql_statements import NAME, code_of, names_after

_MAYBE = r"(?:if\s+(?:not\s+)?exists\s+)?"
_CREATE = re.compile(
    rf"create\s+(?:(?:unlogged|temp|temporary)\s+)?table\s+{_MAYBE}({NAME})", re.IGNORECASE
)
_DROP = re.compile(rf"drop\s+table\s+{_MAYBE}({NAME}(?:\s*,\s*{NAME})*)", re.IGNORECASE)
_ALTER = re.compile(
    rf"alter\s+table\s+{_MAYBE}(?:only\s+)?({NAME})\s+(.*)", re.IGNORECASE | re.DOTALL
)
_DELETE = re.compile(rf"\bdelete\s+from\s+(?:only\s+)?({NAME})", re.IGNORECASE)
_TRUNCATE = re.compile(
    rf"^truncate\s+(?:table\s+)?(?:only\s+)?({NAME}(?:\s*,\s*{NAME})*)", re.IGNORECASE
)
_UNIQUE_INDEX = re.compile(
    rf"create\s+unique\s+index\s+(?:concurrently\s+)?{_MAYBE}({NAME})\s+on\s+"
    rf"(?:only\s+)?({NAME})[^(]*\(([^()]*)\)",
    re.IGNORECASE,
)
_DROP_COLUMN = re.compile(rf"drop\s+(?:column\s+)?{_MAYBE}({NAME})", re.IGNORECASE)
_RENAME_TABLE = re.compile(rf"rename\s+(?:to\s+|as\s+)({NAME})", re.IGNORECASE)
_RENAME_COLUMN = re.compile(
    rf"rename\s+(?:column\s+)?({NAME})\s+to\s+({NAME})", re.IGNORECASE
)
_ADD_COLUMN = re.compile(rf"add\s+(?:column\s+)?{_MAYBE}({NAME})\s+(.*)", re.IGNORECASE)
_NOT_NULL = re.compile(rf"alter\s+(?:column\s+)?({NAME})\s+set\s+not\s+null", re.IGNORECASE)
_TYPE = re.compile(
    rf"alter\s+(?:column\s+)?({NAME})\s+(?:set\s+data\s+)?type\s+(\S+)", re.IGNORECASE
)
_ADD_CONSTRAINT = re.compile(
    rf"add\s+(?:constraint\s+({NAME})\s+)?(unique|check|foreign\s+key|exclude)\b"
    r"[^(]*\(([^()]*)",
    re.IGNORECASE,
)
_NO_COLUMN = {
    *("constraint", "index", "key", "primary", "foreign", "check", "unique", "exclude"),
    *("partition", "fulltext", "spatial", "period", "system", "default"),
}
_HAS_VALUE = re.compile(
    r"\b(default|generated|auto_increment|serial|bigserial)\b", re.IGNORECASE
)
_WRITES = re.compile(
    r"^(insert|update|delete|merge|replace|truncate|copy)\b", re.IGNORECASE
)
_LATER_WRITES = re.compile(
    r"\b(insert\s+into|update\s+\S+\s+set|delete\s+from)\b", re.IGNORECASE
)


def texts_of(operation: Operation, *, backwards: bool) -> Iterator[str]:
    """Yield the statements that an operation has as text: one, or a list of them, each
    alone or with its parameters."""
    raw = getattr(operation, "reverse_sql" if backwards else "sql", None)
    for statement in [raw] if isinstance(raw, str) else raw or ():
        yield statement if isinstance(statement, str) else statement[0]


def statements_of(operation: RunSQL, vendor: str, *, backwards: bool) -> tuple[str, ...]:
    """Return the statements of a RunSQL, without comments and literals, split as this
    vendor does."""
    dialect = dialect_of(vendor)
    return tuple(
        statement
        for text in texts_of(operation, backwards=backwards)
        for statement in code_of(text, dialect)
    )


def is_concurrent(statement: str) -> bool:
    return bool(
        re.match(r"(create|drop|reindex)\b.*\bconcurrently\b", statement, re.IGNORECASE)
    )


def writes_rows(statement: str) -> bool:
    """Return whether the purpose of a statement is to change data."""
    if _WRITES.match(statement):
        return True
    opens = re.match(r"(with|do)\b", statement, re.IGNORECASE)
    return bool(opens and _LATER_WRITES.search(statement))


def altered_tables(statements: tuple[str, ...]) -> set[str]:
    found = {_last(match[1]) for text in statements if (match := _ALTER.match(text))}
    for text in statements:
        if re.match(r"create\s+(unique\s+)?index\b", text, re.IGNORECASE):
            found |= {name[-1] for name in names_after("on", text)}
    return found


def changes_of(statement: str) -> Iterator[SchemaChange]:
    if found := _CREATE.match(statement):
        yield SchemaChange(kind=ChangeKind.TABLE_ADDED, table=_last(found[1]))
    elif found := _DROP.match(statement):
        for name in _listed(found[1]):
            yield SchemaChange(kind=ChangeKind.TABLE_DROPPED, table=name)
    elif found := _ALTER.match(statement):
        for action in _actions(found[2]):
            yield from _altered(_last(found[1]), action)
    elif found := _UNIQUE_INDEX.match(statement):
        columns = tuple(_listed(found[3]))
        yield _unique(_last(found[2]), columns, _last(found[1]))
    else:
        yield from _emptied(statement)


def _emptied(statement: str) -> Iterator[SchemaChange]:
    if found := _TRUNCATE.match(statement):
        for name in _listed(found[1]):
            yield SchemaChange(kind=ChangeKind.ROWS_DROPPED, table=name)
    elif not re.match(r"create\b", statement, re.IGNORECASE):  # a trigger, a view
        for found in _DELETE.finditer(statement):
            yield SchemaChange(kind=ChangeKind.ROWS_DROPPED, table=_last(found[1]))


def _altered(table: str, action: str) -> Iterator[SchemaChange]:
    if found := _RENAME_TABLE.match(action):
        yield SchemaChange(kind=ChangeKind.TABLE_RENAMED, table=table, name=_last(found[1]))
    elif (found := _RENAME_COLUMN.match(action)) and _is_column(found[1]):
        yield SchemaChange(
            kind=ChangeKind.COLUMN_RENAMED,
            table=table,
            columns=(_last(found[1]),),
            name=_last(found[2]),
        )
    elif (found := _DROP_COLUMN.match(action)) and _is_column(found[1]):
        kind = ChangeKind.COLUMN_DROPPED
        yield SchemaChange(kind=kind, table=table, columns=(_last(found[1]),))
    elif found := _ADD_CONSTRAINT.match(action):
        yield from _constrained(table, action, found)
    elif (found := _ADD_COLUMN.match(action)) and _is_column(found[1]):
        forbids = re.search(r"\bnot\s+null\b", found[2], re.IGNORECASE) is not None
        yield SchemaChange(
            kind=ChangeKind.COLUMN_ADDED,
            table=table,
            columns=(_last(found[1]),),
            is_nullable=not forbids,
            needs_value=forbids and not _HAS_VALUE.search(found[2]),
        )
    elif found := _NOT_NULL.match(action):
        kind, columns = ChangeKind.NULL_FORBIDDEN, (_last(found[1]),)
        yield SchemaChange(kind=kind, table=table, columns=columns, needs_value=True)
    elif found := _TYPE.match(action):
        kind, columns = ChangeKind.COLUMN_RETYPED, (_last(found[1]),)
        yield SchemaChange(kind=kind, table=table, columns=columns, detail=f"to {found[2]}")


def _constrained(table: str, action: str, found: re.Match[str]) -> Iterator[SchemaChange]:
    if re.search(r"\bnot\s+valid\b", action, re.IGNORECASE):
        return
    word, name = found[2].lower(), _last(found[1] or "")
    if word == "unique":
        yield _unique(table, tuple(_listed(found[3])), name)
    elif word.startswith("foreign"):
        columns = tuple(_listed(found[3]))
        yield SchemaChange(kind=ChangeKind.REFERENCE_ADDED, table=table, columns=columns)
    else:
        yield SchemaChange(kind=ChangeKind.CHECK_ADDED, table=table, name=name)


def _unique(table: str, columns: tuple[str, ...], name: str) -> SchemaChange:
    return SchemaChange(
        kind=ChangeKind.UNIQUE_ADDED, table=table, columns=columns, name=name
    )


def _actions(text: str) -> Iterator[str]:
    """Yield the actions of an ALTER TABLE, split at commas outside parentheses."""
    depth, start = 0, 0
    for position, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            yield text[start:position].strip()
            start = position + 1
    yield text[start:].strip()


def _is_column(name: str) -> bool:
    return name.lower() not in _NO_COLUMN


def _listed(names: str) -> Iterator[str]:
    for name in names.split(","):
        if name.strip():
            yield _last(name)


def _last(name: str) -> str:
    """Return the last part of a name, without its quotes."""
    found = re.findall(NAME, name.strip())
    last = found[0].rpartition(".")[2].strip() if found else name.strip()
    return last.strip('"`') if last[:1] in '"`' else last.lower()
