"""Forecasts ALTER TABLE on PostgreSQL, action by action.

After the manual, ALTER TABLE and its Notes. A change of a column's type does not rewrite
the table "if the old type is either binary coercible to the new type or an unconstrained
domain over the new type", nor where only a length or a precision grows
(`varchar_support`, `numeric_support` and `temporal_support` in the server's source). In
doubt it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from migration_route.vendors.postgresql.contention import (
    ACCESS_EXCLUSIVE,
    ROW_SHARE,
    SHARE_ROW,
    mode_of,
)
from migration_route.vendors.postgresql.forecast.schema import (
    Check,
    Column,
    ForecastBuilder,
    Index,
    Schema,
    Table,
)
from migration_route.vendors.sql_lexer import LexemeKind
from migration_route.vendors.sql_statements import Name, TokenStream

_BEHIND_A_TYPE = (
    "CONSTRAINT", "NOT", "NULL", "CHECK", "DEFAULT", "GENERATED", "UNIQUE", "PRIMARY",
    "REFERENCES", "COLLATE", "COMPRESSION", "STORAGE", "DEFERRABLE", "INITIALLY", "USING",
)  # fmt: skip
_CONSTRAINTS = ("CONSTRAINT", "CHECK", "UNIQUE", "PRIMARY", "FOREIGN", "EXCLUDE")


def alter_table(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Forecast ALTER TABLE, from after these two words."""
    words.accept("IF", "EXISTS")
    words.accept("ONLY")
    name = words.name()
    words.accept("*")
    table = schema.table(name)
    if name is None or table is None:
        return  # it fails, or is about a view, or about what unknown code creates
    alteration = _Alteration(builder, schema, name, table)
    for action in words.parts():
        alteration.read(action)


class _Alteration:
    """Reads the actions of one ALTER TABLE in order."""

    def __init__(
        self, builder: ForecastBuilder, schema: Schema, name: Name, table: Table
    ) -> None:
        self._builder = builder
        self._schema = schema
        self._name = name
        self._table = table

    def read(self, action: TokenStream) -> None:
        mode = mode_of(f'ALTER TABLE "x" {action}') or ACCESS_EXCLUSIVE
        self._builder.lock(self._table, mode)
        for words, read in _ACTIONS.items():
            if action.accept(*words.split()):
                read(self, action)
                return
        self._builder.is_understood = False
        self._builder.worst(self._table)

    def _nothing(self, action: TokenStream) -> None:
        """Forecast an action that costs a lock and nothing more."""

    def _add(self, action: TokenStream) -> None:
        if any(action.sees(word) for word in _CONSTRAINTS):
            self._add_constraint(action)
        else:
            action.accept("COLUMN")
            self._add_column(action)

    def _add_column(self, action: TokenStream) -> None:
        """Forecast ADD COLUMN: immediate, except for values that differ from row to row."""
        builder, schema, table = self._builder, self._schema, self._table
        if action.accept("IF", "NOT", "EXISTS") and self._has_column(action):
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
            table.add_key(
                parent, name=constraint[-1] if constraint else "", columns=name or ()
            )
        if name:
            kind = SERIAL.get(type_of(kind)[0], kind)
            table.columns[name[-1]] = Column(
                type=kind, is_not_null=not_null, is_collated=words.has("COLLATE")
            )
            if is_unique:
                table.indexes[f"unique {name[-1]}"] = Index(columns=frozenset(name[-1:]))

    def _has_column(self, action: TokenStream) -> bool:
        name = TokenStream(action.rest).name()
        return bool(name and name[-1] in self._table.columns)

    def _drop_column(self, action: TokenStream) -> None:
        """Forecast DROP COLUMN: immediate; its foreign keys have triggers on both
        tables."""
        builder, table = self._builder, self._table
        action.accept("COLUMN")
        action.accept("IF", "EXISTS")
        column = action.label()
        known = column if column in table.columns else None
        builder.lock_names(table.parents(column=known), ACCESS_EXCLUSIVE)
        if action.has("CASCADE"):
            builder.lock_names(table.children(), ACCESS_EXCLUSIVE)
        table.forget_column(column)

    def _alter_column(self, action: TokenStream) -> None:
        builder, table = self._builder, self._table
        action.accept("COLUMN")
        label = action.label()
        column = table.columns.get(label)
        if action.accept("TYPE") or action.accept("SET", "DATA", "TYPE"):
            self._change_type(label, action)
        elif action.accept("SET", "NOT", "NULL"):
            if not (column and column.is_not_null) and not table.is_proven(label):
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

    def _change_type(self, name: str, action: TokenStream) -> None:
        """Forecast ALTER COLUMN TYPE, with what is rebuilt along with the column."""
        builder, table = self._builder, self._table
        kind = str(action.until(*_BEHIND_A_TYPE))
        column = table.columns.get(name)
        collates = action.has("COLLATE")
        rewrites = column is None or is_rewritten(
            column.type, kind, is_same_inside=self._schema.is_same_inside
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

    def _alter_constraint(self, action: TokenStream) -> None:
        del action
        others = self._table.parents() | self._table.children()
        self._builder.lock_names(others, ACCESS_EXCLUSIVE)

    def _partition(self, action: TokenStream) -> None:
        builder, table = self._builder, self._table
        part = self._schema.table(action.name())
        builder.lock(part, ACCESS_EXCLUSIVE)
        builder.scan(part)
        builder.scan_names(table.heirs)  # the default partition, to check that it fits
        builder.lock_names(table.parents() | table.children(), SHARE_ROW)

    def _rewrite(self, action: TokenStream) -> None:
        del action
        self._builder.rewrite(self._table)

    def _inherit(self, action: TokenStream) -> None:
        self._builder.lock(self._schema.table(action.name()), ACCESS_EXCLUSIVE)

    def _add_constraint(self, action: TokenStream) -> None:
        """Forecast ADD CONSTRAINT: existing rows are read, unless it is NOT VALID."""
        builder, schema, table = self._builder, self._schema, self._table
        label = action.label() if action.accept("CONSTRAINT") else ""
        reads = not action.has("NOT", "VALID")
        if action.accept("CHECK"):
            text = action.group() or TokenStream(())
            columns = frozenset(word.plain for word in text.tokens if word.names)
            proves = _proven(text)
            table.checks[label] = Check(columns=columns, is_valid=reads, proves=proves)
        elif action.accept("FOREIGN", "KEY"):
            group = action.group()
            parent = schema.table(action.name_after("REFERENCES"))
            builder.refer(parent)
            if reads and not table.is_empty:
                builder.scan(parent)
            columns_here = tuple(name[-1] for name in group.names()) if group else ()
            table.add_key(parent, name=label, columns=columns_here)
        elif action.has("USING", "INDEX"):
            reads = action.sees("PRIMARY")  # its columns may still be nullable
        elif action.accept("UNIQUE") or action.accept("PRIMARY", "KEY"):
            group = action.group()
            names = group.names() if group else []
            columns = frozenset(name[-1] for name in names)
            schema.add_index(label, table, Index(columns=columns))
        else:
            schema.add_index(label, table, Index(is_plain=False))
        if reads:
            builder.scan(table)

    def _drop_constraint(self, action: TokenStream) -> None:
        """Forecast DROP CONSTRAINT: a foreign key has triggers on both of its tables."""
        builder, table = self._builder, self._table
        action.accept("IF", "EXISTS")
        label = action.label()
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

    def _validate(self, action: TokenStream) -> None:
        """Forecast VALIDATE CONSTRAINT: a scan while other sessions continue."""
        builder, table = self._builder, self._table
        label = action.label()
        builder.scan(table)
        if check := table.checks.get(label):
            check.is_valid = True
            return
        key = table.key(label)
        parents = table.parents() if key is None else {key.parent}
        builder.lock_names(parents, ROW_SHARE)
        builder.scan_names(parents)

    def _rename_table(self, action: TokenStream) -> None:
        if new := action.name():
            self._schema.rename(self._name, new[-1])

    def _rename_constraint(self, action: TokenStream) -> None:
        checks = self._table.checks
        old, new = action.name(), action.name_after("TO")
        if old and new and old[-1] in checks:
            checks[new[-1]] = checks.pop(old[-1])

    def _rename_column(self, action: TokenStream) -> None:
        action.accept("COLUMN")
        old, new = action.name(), action.name_after("TO")
        if old and new:
            self._table.rename_column(old[-1], new[-1])


def _is_plain_cast(action: TokenStream, name: str, kind: str) -> bool:
    """Return whether USING says no more than `"column"::type`, which is the default."""
    words = TokenStream(action.rest)
    column = words.name()
    if column is None or column[-1] != name or not words.accept("::"):
        return False
    return type_of(str(TokenStream(words.rest))) == type_of(kind) and not any(
        token.kind is LexemeKind.LITERAL for token in words.rest
    )


def _proven(text: TokenStream) -> str | None:
    words = TokenStream(text.tokens)
    name = words.name()
    if name and words.accept("IS", "NOT", "NULL") and words.is_done:
        return name[-1]
    return None


_LIGHT = (
    "ENABLE", "DISABLE", "NO FORCE", "FORCE", "OWNER", "REPLICA", "CLUSTER", "RESET",
    "SET WITHOUT", "SET (", "SET SCHEMA", "OF", "NOT OF",
)  # fmt: skip
# The first match applies.
_ACTIONS: dict[str, Callable[[_Alteration, TokenStream], None]] = {
    "RENAME TO": _Alteration._rename_table,
    "RENAME CONSTRAINT": _Alteration._rename_constraint,
    "RENAME": _Alteration._rename_column,
    "ADD": _Alteration._add,
    "DROP CONSTRAINT": _Alteration._drop_constraint,
    "DROP": _Alteration._drop_column,
    "ALTER CONSTRAINT": _Alteration._alter_constraint,
    "ALTER": _Alteration._alter_column,
    "VALIDATE CONSTRAINT": _Alteration._validate,
    "ATTACH PARTITION": _Alteration._partition,
    "DETACH PARTITION": _Alteration._partition,
    "SET TABLESPACE": _Alteration._rewrite,
    "SET LOGGED": _Alteration._rewrite,
    "SET UNLOGGED": _Alteration._rewrite,
    "SET ACCESS METHOD": _Alteration._rewrite,
    "INHERIT": _Alteration._inherit,
    "NO INHERIT": _Alteration._inherit,
    **dict.fromkeys(_LIGHT, _Alteration._nothing),
}


# Words before a bracket that are not functions of the catalog.
_NO_FUNCTIONS = frozenset(
    {
        "all", "and", "any", "array", "as", "by", "cast", "char", "character", "coalesce",
        "conflict", "current_time", "current_timestamp", "decimal", "distinct", "else",
        "exists", "filter", "from", "greatest", "group", "having", "in", "is", "least",
        "localtime", "localtimestamp", "not", "nullif", "numeric", "on", "or", "over",
        "returning", "row", "select", "set", "some", "then", "using", "values", "varchar",
        "varying", "when", "where", "within",
    }
)  # fmt: skip
_SHORT = {
    "varchar": "character varying",
    "char": "character",
    "bpchar": "character",
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "int2": "smallint",
    "bool": "boolean",
    "float": "double precision",
    "float8": "double precision",
    "float4": "real",
    "decimal": "numeric",
    "dec": "numeric",
    "varbit": "bit varying",
    "timestamp": "timestamp without time zone",
    "timestamptz": "timestamp with time zone",
    "time": "time without time zone",
    "timetz": "time with time zone",
}
_GROWING = frozenset(("character varying", "bit varying"))
_PRECISE = frozenset(
    (
        "timestamp without time zone",
        "timestamp with time zone",
        "time without time zone",
        "time with time zone",
    )
)
SERIAL = {
    "serial": "integer",
    "serial4": "integer",
    "bigserial": "bigint",
    "serial8": "bigint",
    "smallserial": "smallint",
    "serial2": "smallint",
}
"""The types that are a column with a sequence, and the type of that column."""

_ARGUMENTS = re.compile(r"\(([\d\s,]*)\)")

Type = tuple[str, tuple[int, ...]]
"""A type's name as `format_type` writes it, and its arguments."""


def functions_in(expression: TokenStream) -> set[str]:
    pairs = zip(expression.tokens, expression.tokens[1:], strict=False)
    return {
        first.plain
        for first, second in pairs
        if first.names and second.word == "(" and first.plain not in _NO_FUNCTIONS
    }


def type_of(text: str) -> Type:
    """Parse a type: `varchar(20)` is ("character varying", (20,))."""
    match = _ARGUMENTS.search(text)
    bare = " ".join(_ARGUMENTS.sub(" ", text).lower().replace("[ ]", "[]").split())
    arguments = (
        tuple(int(part) for part in match[1].split(",") if part.strip()) if match else ()
    )
    return _SHORT.get(bare, bare), arguments


def is_rewritten(old: str, new: str, *, is_same_inside: Callable[[str, str], bool]) -> bool:
    """Return whether a change from the old type to the new one rewrites the column.

    `is_same_inside` asks the catalog whether two types are stored in the same way.
    """
    (old_name, before), (new_name, after) = type_of(old), type_of(new)
    if (old_name, before) == (new_name, after):
        return False
    if old_name == new_name:
        if old_name in _GROWING | _PRECISE:
            return not (not after or (before and after >= before))
        if old_name == "numeric":
            same_scale = _scale(after) == _scale(before)
            return not (not after or (before and same_scale and after >= before))
        return True
    # In doubt: whether a timestamp is rewritten with its zone depends on the session.
    return bool(after) or not is_same_inside(old_name, new_name)


def _scale(arguments: tuple[int, ...]) -> int:
    return arguments[1] if len(arguments) > 1 else 0
