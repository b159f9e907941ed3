"""Forecasts ALTER TABLE on PostgreSQL, action by action.

After the manual, ALTER TABLE and its Notes.
"""

from __future__ import annotations

from collections.abc import Callable

from migration_route.vendors.postgresql.contention import (
    ACCESS_EXCLUSIVE,
    ROW_SHARE,
    SHARE_ROW,
    mode_of,
)
from migration_route.vendors.postgresql.forecast.effects import (
    Check,
    Column,
    ForecastBuilder,
    ForeignKey,
    Index,
    Table,
)
from migration_route.vendors.postgresql.forecast.schema import Schema
from migration_route.vendors.postgresql.forecast.types import SERIAL, is_rewritten, type_of
from migration_route.vendors.sql_lexer import LexemeKind
from migration_route.vendors.sql_statements import Name, TokenStream

_BEHIND_A_TYPE = (
    "CONSTRAINT",
    "NOT",
    "NULL",
    "CHECK",
    "DEFAULT",
    "GENERATED",
    "UNIQUE",
    "PRIMARY",
    "REFERENCES",
    "COLLATE",
    "COMPRESSION",
    "STORAGE",
    "DEFERRABLE",
    "INITIALLY",
    "USING",
)
# Words before a bracket that are not functions of the catalog.
_NO_FUNCTIONS = frozenset(
    [
        "all",
        "and",
        "any",
        "array",
        "as",
        "by",
        "cast",
        "char",
        "character",
        "coalesce",
        "conflict",
        "current_time",
        "current_timestamp",
        "decimal",
        "distinct",
        "else",
        "exists",
        "filter",
        "from",
        "greatest",
        "group",
        "having",
        "in",
        "is",
        "least",
        "localtime",
        "localtimestamp",
        "not",
        "nullif",
        "numeric",
        "on",
        "or",
        "over",
        "returning",
        "row",
        "select",
        "set",
        "some",
        "then",
        "using",
        "values",
        "varchar",
        "varying",
        "when",
        "where",
        "within",
    ]
)


def functions_in(expression: TokenStream) -> set[str]:
    """Return the functions that an expression calls."""
    pairs = zip(expression.tokens, expression.tokens[1:], strict=False)
    return {
        first.plain
        for first, second in pairs
        if first.names and second.word == "(" and first.plain not in _NO_FUNCTIONS
    }


def add_column(
    builder: ForecastBuilder, schema: Schema, table: Table, action: TokenStream
) -> None:
    """Forecast ADD COLUMN: immediate, except for values that differ from row to row."""
    if action.accept("IF", "NOT", "EXISTS") and _is_there(table, action):
        return
    name = action.name()
    kind = str(action.until(*_BEHIND_A_TYPE))
    words = TokenStream(action.rest)
    has_default = words.has("DEFAULT")
    is_filled = type_of(kind)[0] in SERIAL or schema.is_domain(type_of(kind)[0])
    if words.has("GENERATED"):
        is_filled = is_filled or not words.has("VIRTUAL")  # identity, or stored
    if words.skip_to("DEFAULT"):
        default = words.until(*_BEHIND_A_TYPE)
        is_filled = is_filled or schema.are_volatile(functions_in(default))
    if is_filled:
        builder.rewrite(table)
    words = TokenStream(action.rest)
    not_null = words.has("NOT", "NULL") or words.has("PRIMARY", "KEY")
    is_unique = words.has("UNIQUE") or words.has("PRIMARY", "KEY")
    if words.has("CHECK") or is_unique or (not_null and not has_default):
        builder.scan(table)
    if parent_name := words.name_after("REFERENCES"):
        parent = schema.table(parent_name)
        builder.refer(parent)
        # "If the column has a non-null default, we can't skip validation" (server's
        # source, parse_utilcmd.c).
        if has_default or is_filled:
            builder.scan(table)
            builder.scan(parent)
        constraint = words.name_after("CONSTRAINT")
        add_key(
            table, parent, name=constraint[-1] if constraint else "", columns=name or ()
        )
    if name:
        kind = SERIAL.get(type_of(kind)[0], kind)
        table.columns[name[-1]] = Column(
            type=kind, is_not_null=not_null, is_collated=words.has("COLLATE")
        )
        if is_unique:
            table.indexes[f"unique {name[-1]}"] = Index(columns=frozenset(name[-1:]))


def _is_there(table: Table, action: TokenStream) -> bool:
    name = TokenStream(action.rest).name()
    return bool(name and name[-1] in table.columns)


def add_key(
    table: Table, parent: Table | None, *, name: str, columns: tuple[str, ...]
) -> None:
    """Record a new foreign key on both tables."""
    if parent is None:
        return
    key = ForeignKey(
        name=name, child=table.name, parent=parent.name, columns=frozenset(columns)
    )
    table.keys.append(key)
    if parent is not table:
        parent.keys.append(key)


def drop_column(builder: ForecastBuilder, table: Table, action: TokenStream) -> None:
    """Forecast DROP COLUMN: immediate; its foreign keys have triggers on both tables."""
    action.accept("IF", "EXISTS")
    name = action.name()
    column = name[-1] if name else None
    known = column in table.columns
    builder.lock_names(table.parents(column=column if known else None), ACCESS_EXCLUSIVE)
    if action.has("CASCADE"):
        builder.lock_names(table.children(), ACCESS_EXCLUSIVE)
    table.columns.pop(column or "", None)
    table.keys[:] = [
        key for key in table.keys if key.child != table.name or column not in key.columns
    ]
    _forget_checks(table, column)


def _forget_checks(table: Table, column: str | None) -> None:
    for label in [
        label for label, check in table.checks.items() if column in check.columns
    ]:
        del table.checks[label]


def alter_column(
    builder: ForecastBuilder, schema: Schema, table: Table, action: TokenStream
) -> None:
    name = action.name()
    label = name[-1] if name else ""
    column = table.columns.get(label)
    if action.accept("TYPE") or action.accept("SET", "DATA", "TYPE"):
        _change_type(builder, schema, table, label, action)
    elif action.accept("SET", "NOT", "NULL"):
        if not (column and column.is_not_null) and not _is_proven(table, label):
            builder.scan(table)
        if column:
            column.is_not_null = True
    elif action.accept("DROP", "NOT", "NULL"):
        if column:
            column.is_not_null = False
    elif action.accept("SET", "EXPRESSION"):
        builder.rewrite(table)
    elif action.accept("ADD", "GENERATED") and not (column and column.is_not_null):
        builder.scan(table)


def _is_proven(table: Table, column: str) -> bool:
    return any(c.is_valid and c.proves == column for c in table.checks.values())


def _change_type(
    builder: ForecastBuilder, schema: Schema, table: Table, name: str, action: TokenStream
) -> None:
    """Forecast ALTER COLUMN TYPE, with what is rebuilt along with the column."""
    kind = str(action.until(*_BEHIND_A_TYPE))
    column = table.columns.get(name)
    collates = action.has("COLLATE")
    rewrites = column is None or is_rewritten(
        column.type, kind, is_same_inside=schema.is_same_inside
    )
    if action.skip_to("USING") and not _is_plain_cast(action, name, kind):
        rewrites = True
    if rewrites:
        builder.rewrite(table)
    indexed = [index for index in table.indexes.values() if name in index.columns]
    odd = [index for index in table.indexes.values() if not index.is_plain]
    recollates = collates or (column is not None and column.is_collated)
    changes_type = column is None or type_of(column.type)[0] != type_of(kind)[0]
    is_text = changes_type and type_of(kind)[0] in {"text", "character varying"}
    if odd or (indexed and (recollates or (changes_type and not is_text))):
        builder.scan(table)
    if any(name in check.columns for check in table.checks.values()):
        builder.scan(table)
    others = table.parents(column=name) | table.children(column=name)
    if others:  # their foreign keys are dropped, recreated and validated
        builder.lock_names(others, ACCESS_EXCLUSIVE)
        builder.scan_names(others)
        builder.scan(table)
    not_null = column is not None and column.is_not_null
    table.columns[name] = Column(type=kind, is_not_null=not_null, is_collated=collates)


def _is_plain_cast(action: TokenStream, name: str, kind: str) -> bool:
    """Return whether USING says no more than `"column"::type`, which is the default."""
    words = TokenStream(action.rest)
    column = words.name()
    if column is None or column[-1] != name or not words.accept("::"):
        return False
    return type_of(str(TokenStream(words.rest))) == type_of(kind) and not any(
        token.kind is LexemeKind.LITERAL for token in words.rest
    )


_CONSTRAINTS = ("CONSTRAINT", "CHECK", "UNIQUE", "PRIMARY", "FOREIGN", "EXCLUDE")
# These actions cost a lock and nothing more.
_LIGHT = (
    ("ENABLE",),
    ("DISABLE",),
    ("NO", "FORCE"),
    ("FORCE",),
    ("OWNER",),
    ("REPLICA",),
    ("CLUSTER",),
    ("RESET",),
    ("SET", "WITHOUT"),
    ("SET", "("),
    ("SET", "SCHEMA"),
    ("OF",),
    ("NOT", "OF"),
)


def alter_table(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Forecast ALTER TABLE, from after these two words."""
    words.accept("IF", "EXISTS")
    words.accept("ONLY")
    name = words.name()
    words.accept("*")
    table = schema.table(name)
    if name is None or table is None:
        return  # it fails, or is about a view, or about what unknown code creates
    for action in words.parts():
        mode = mode_of(f'ALTER TABLE "x" {action}') or ACCESS_EXCLUSIVE
        builder.lock(table, mode)
        _act(builder, schema, name, table, action)


def _act(
    builder: ForecastBuilder, schema: Schema, name: Name, table: Table, action: TokenStream
) -> None:
    if action.accept("RENAME"):
        _rename(schema, name, table, action)
        return
    for words, read in _ACTIONS:
        if action.accept(*words):
            read(builder, schema, table, action)
            return
    if not any(action.accept(*words) for words in _LIGHT):
        builder.is_understood = False
        builder.worst(table)


def _add(
    builder: ForecastBuilder, schema: Schema, table: Table, action: TokenStream
) -> None:
    if any(action.sees(word) for word in _CONSTRAINTS):
        _add_constraint(builder, schema, table, action)
    else:
        action.accept("COLUMN")
        add_column(builder, schema, table, action)


def _drop(
    builder: ForecastBuilder, schema: Schema, table: Table, action: TokenStream
) -> None:
    del schema
    action.accept("COLUMN")
    drop_column(builder, table, action)


def _alter(
    builder: ForecastBuilder, schema: Schema, table: Table, action: TokenStream
) -> None:
    action.accept("COLUMN")
    alter_column(builder, schema, table, action)


def _alter_constraint(
    builder: ForecastBuilder, schema: Schema, table: Table, action: TokenStream
) -> None:
    del schema, action
    builder.lock_names(table.parents() | table.children(), ACCESS_EXCLUSIVE)


def _partition(
    builder: ForecastBuilder, schema: Schema, table: Table, action: TokenStream
) -> None:
    part = schema.table(action.name())
    builder.lock(part, ACCESS_EXCLUSIVE)
    builder.scan(part)
    builder.scan_names(table.heirs)  # the default partition, to check that it fits
    builder.lock_names(table.parents() | table.children(), SHARE_ROW)


def _rewrite(
    builder: ForecastBuilder, schema: Schema, table: Table, action: TokenStream
) -> None:
    del schema, action
    builder.rewrite(table)


def _inherit(
    builder: ForecastBuilder, schema: Schema, table: Table, action: TokenStream
) -> None:
    del table
    builder.lock(schema.table(action.name()), ACCESS_EXCLUSIVE)


def _add_constraint(
    builder: ForecastBuilder, schema: Schema, table: Table, action: TokenStream
) -> None:
    """Forecast ADD CONSTRAINT: existing rows are read, unless it is NOT VALID."""
    name: Name | None = None
    if action.accept("CONSTRAINT"):
        name = action.name()
    label = name[-1] if name else ""
    reads = not action.has("NOT", "VALID")
    if action.accept("CHECK"):
        text = action.group() or TokenStream(())
        columns = frozenset(word.plain for word in text.tokens if word.names)
        table.checks[label] = Check(columns=columns, is_valid=reads, proves=_proven(text))
    elif action.accept("FOREIGN", "KEY"):
        group = action.group()
        parent = schema.table(action.name_after("REFERENCES"))
        builder.refer(parent)
        if reads and not table.is_empty:
            builder.scan(parent)
        columns_here = tuple(name[-1] for name in group.names()) if group else ()
        add_key(table, parent, name=label, columns=columns_here)
    elif action.has("USING", "INDEX"):
        reads = action.sees("PRIMARY")  # its columns may still be nullable
    elif action.accept("UNIQUE") or action.accept("PRIMARY", "KEY"):
        group = action.group()
        columns = frozenset(name[-1] for name in group.names()) if group else frozenset()
        schema.add_index(label, table, Index(columns=columns))
    else:
        schema.add_index(label, table, Index(is_plain=False))
    if reads:
        builder.scan(table)


def _proven(text: TokenStream) -> str | None:
    words = TokenStream(text.tokens)
    name = words.name()
    if name and words.accept("IS", "NOT", "NULL") and words.is_done:
        return name[-1]
    return None


def _drop_constraint(
    builder: ForecastBuilder, schema: Schema, table: Table, action: TokenStream
) -> None:
    """Forecast DROP CONSTRAINT: a foreign key has triggers on both of its tables."""
    del schema
    action.accept("IF", "EXISTS")
    name = action.name()
    label = name[-1] if name else ""
    key = table.key(label)
    if key is not None:
        builder.lock_names({key.parent}, ACCESS_EXCLUSIVE)
        table.keys.remove(key)
    elif label not in table.checks and label not in table.indexes:
        builder.lock_names(table.parents(), ACCESS_EXCLUSIVE)  # it may be any of them
    if action.has("CASCADE"):
        builder.lock_names(table.children(), ACCESS_EXCLUSIVE)
    table.checks.pop(label, None)
    table.indexes.pop(label, None)


def _validate(
    builder: ForecastBuilder, schema: Schema, table: Table, action: TokenStream
) -> None:
    """Forecast VALIDATE CONSTRAINT: a scan while other sessions continue."""
    del schema
    name = action.name()
    label = name[-1] if name else ""
    builder.scan(table)
    if check := table.checks.get(label):
        check.is_valid = True
        return
    key = table.key(label)
    parents = table.parents() if key is None else {key.parent}
    builder.lock_names(parents, ROW_SHARE)
    builder.scan_names(parents)


def _rename(schema: Schema, name: Name, table: Table, action: TokenStream) -> None:
    if action.accept("TO"):
        if new := action.name():
            schema.rename(name, new[-1])
        return
    if action.accept("CONSTRAINT"):
        old, new = action.name(), action.name_after("TO")
        kept: dict[str, Check] = table.checks
        if old and new and old[-1] in kept:
            kept[new[-1]] = kept.pop(old[-1])
        return
    action.accept("COLUMN")
    old, new = action.name(), action.name_after("TO")
    if old and new:
        table.rename_column(old[-1], new[-1])


# The first match applies.
_ACTIONS: tuple[
    tuple[tuple[str, ...], Callable[[ForecastBuilder, Schema, Table, TokenStream], None]],
    ...,
] = (
    (("ADD",), _add),
    (("DROP", "CONSTRAINT"), _drop_constraint),
    (("DROP",), _drop),
    (("ALTER", "CONSTRAINT"), _alter_constraint),
    (("ALTER",), _alter),
    (("VALIDATE", "CONSTRAINT"), _validate),
    (("ATTACH", "PARTITION"), _partition),
    (("DETACH", "PARTITION"), _partition),
    (("SET", "TABLESPACE"), _rewrite),
    (("SET", "LOGGED"), _rewrite),
    (("SET", "UNLOGGED"), _rewrite),
    (("SET", "ACCESS", "METHOD"), _rewrite),
    (("INHERIT",), _inherit),
    (("NO", "INHERIT"), _inherit),
)
