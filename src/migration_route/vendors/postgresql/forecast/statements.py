"""Forecasts statements other than ALTER TABLE on PostgreSQL.

Each function reads a statement from after the words that are its key in `READERS`. Locks on
single rows are not forecast: they block only sessions that write the same rows.
"""

from __future__ import annotations

from collections.abc import Callable

from migration_route.vendors.postgresql.contention import (
    ACCESS_EXCLUSIVE,
    ACCESS_SHARE,
    ROW_EXCLUSIVE,
    ROW_SHARE,
    SHARE,
    SHARE_UPDATE,
    mode_of,
)
from migration_route.vendors.postgresql.forecast.alter_table import (
    alter_table,
    functions_in,
)
from migration_route.vendors.postgresql.forecast.schema import (
    Column,
    ForecastBuilder,
    Index,
    Schema,
)
from migration_route.vendors.sql_statements import TokenStream


def read_names(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Forecast a scan of every named table: the server's planner decides how it is read.
    What a view reads, or what a function of the project does, is unknown."""
    if not schema.are_the_servers(functions_in(TokenStream(words.rest))):
        builder.is_understood = False
    for name in words.all_names():
        if schema.is_view(name):
            builder.is_understood = False
        if table := schema.table(name):
            builder.lock(table, ACCESS_SHARE)
            builder.scan(table)


def insert(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Forecast INSERT: the referenced rows are locked, in a mode that lets others write."""
    table = schema.table(words.name())
    words.group()
    read_names(builder, schema, words)
    builder.lock(table, ROW_EXCLUSIVE)
    if table:
        table.is_empty = False
        builder.lock_names(table.parents(), ROW_SHARE)


def delete(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Forecast DELETE: its rows, and those that reference them, are searched for."""
    words.accept("ONLY")
    table = schema.table(words.name())
    read_names(builder, schema, words)
    builder.lock(table, ROW_EXCLUSIVE)
    builder.scan(table)
    if table:
        builder.lock_names(table.children(), ROW_EXCLUSIVE)
        builder.scan_names(table.children())


def update(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Forecast UPDATE: its rows are searched for; foreign keys are checked if their columns
    change."""
    words.accept("ONLY")
    table = schema.table(words.name())
    read_names(builder, schema, words)
    builder.lock(table, ROW_EXCLUSIVE)
    builder.scan(table)
    words.skip_to("SET")
    if table is None:
        return
    for change in words.until("FROM", "WHERE", "RETURNING").parts():
        group = change.group()
        for name in group.names() if group else [change.name()]:
            column = name[-1] if name else None
            builder.lock_names(table.parents(column=column), ROW_SHARE)
            builder.lock_names(table.children(column=column), ROW_EXCLUSIVE)
            builder.scan_names(table.children(column=column))


def select(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Forecast SELECT: tables are read, or numbers are taken from a sequence."""
    read_names(builder, schema, words)
    called = functions_in(words)
    numbers = bool(
        called & {"setval", "nextval"}
    )  # of a sequence; the lock is reported for its table
    if words.has("FOR") or numbers:
        for name in words.all_names():
            builder.lock(schema.table(name), ROW_EXCLUSIVE if numbers else ROW_SHARE)


StatementReader = Callable[[ForecastBuilder, Schema, TokenStream], None]


def _create_table(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Forecast CREATE TABLE: no session waits for it, but the tables that it references are
    locked."""
    is_optional = words.accept("IF", "NOT", "EXISTS")
    name = words.name()
    if name is None or (is_optional and schema.table(name) is not None):
        return
    if words.has("PARTITION", "OF"):
        builder.worst(schema.table(words.name_after("PARTITION", "OF")))
    table = schema.create(name)
    group = words.group()
    for part in group.parts() if group else ():
        if parent_name := part.name_after("REFERENCES"):
            parent = schema.table(parent_name)
            builder.refer(parent)
            table.add_key(parent, name="", columns=())
        if part.accept("LIKE"):
            builder.lock(schema.table(part.name()), ACCESS_SHARE)
        elif column := part.name():
            kind = str(
                part.until("CONSTRAINT", "NOT", "NULL", "CHECK", "DEFAULT", "UNIQUE")
            )
            table.columns[column[-1]] = Column(type=kind)
    if words.skip_to("INHERITS") and (ancestors := words.group()):
        for ancestor in ancestors.names():
            builder.lock(schema.table(ancestor), SHARE_UPDATE)
    if words.has("AS"):
        table.is_empty = False
        read_names(builder, schema, words)


def _create_view(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    words.accept("IF", "NOT", "EXISTS")
    view = schema.table(words.name())
    builder.lock(view, ACCESS_EXCLUSIVE)
    for name in words.all_names():
        builder.lock(schema.table(name), ACCESS_SHARE)


def _create_stored_view(
    builder: ForecastBuilder, schema: Schema, words: TokenStream
) -> None:
    words.accept("IF", "NOT", "EXISTS")
    if name := words.name():
        schema.create(name)
    read_names(builder, schema, words)


def _refresh(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    mode = mode_of(str(words)) or ACCESS_EXCLUSIVE
    words.accept("CONCURRENTLY")
    view = schema.table(words.name())
    builder.lock(view, mode)
    builder.rewrite(view)
    builder.is_understood = False  # only its definition says what it reads


def _create_index(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Forecast CREATE INDEX: a scan that blocks writers unless it is concurrent."""
    mode = SHARE_UPDATE if words.accept("CONCURRENTLY") else SHARE
    is_optional = words.accept("IF", "NOT", "EXISTS")
    name = None if words.sees("ON") else words.name()
    if is_optional and name and schema.owner(name):
        return
    words.accept("ON")
    words.accept("ONLY")
    table = schema.table(words.name())
    if table is None:
        return
    builder.lock(table, mode)
    builder.scan(table)
    words.skip_to("(")
    plain = not words.has("WHERE") and not any(t.word == "(" for t in words.rest)
    columns = frozenset(token.plain for token in words.rest if token.names)
    if name:
        schema.add_index(name[-1], table, Index(columns=columns, is_plain=plain))


def _drop_index(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    mode = SHARE_UPDATE if words.accept("CONCURRENTLY") else ACCESS_EXCLUSIVE
    is_optional = words.accept("IF", "EXISTS")
    for name in words.names():
        table = schema.owner(name)
        if table is None:
            # An index that no earlier statement created: its table is unknown.
            builder.is_understood = builder.is_understood and is_optional
            continue
        builder.lock(table, mode)
        table.indexes.pop(name[-1], None)
        schema.drop(name)


def _alter_index(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    mode = mode_of(str(words)) or ACCESS_EXCLUSIVE
    words.accept("IF", "EXISTS")
    name = words.name()
    table = schema.owner(name)
    builder.lock(table, mode)
    if words.accept("RENAME", "TO") and (new := words.name()) and name and table:
        index = table.indexes.pop(name[-1], Index(is_plain=False))
        schema.drop(name)
        schema.add_index(new[-1], table, index)
    if words.accept("ATTACH", "PARTITION"):
        builder.lock(schema.owner(words.name()), ACCESS_EXCLUSIVE)


def _reindex(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    words.group()
    is_whole = not (words.accept("INDEX") or words.accept("TABLE"))
    mode = SHARE_UPDATE if words.accept("CONCURRENTLY") else ACCESS_EXCLUSIVE
    if is_whole:
        builder.is_understood = False  # a schema, or the database: all of its tables
        return
    name = words.name()
    table = schema.table(name) or schema.owner(name)
    builder.lock(table, mode)
    builder.scan(table)


def _drop_table(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Forecast DROP TABLE: a foreign key, to or from it, has triggers on both tables."""
    words.accept("IF", "EXISTS")
    for name in words.names():
        table = schema.table(name)
        if table is None:
            continue
        builder.lock(table, ACCESS_EXCLUSIVE)
        builder.lock_names(table.parents(), ACCESS_EXCLUSIVE)
        if words.has("CASCADE"):
            builder.lock_names(table.children(), ACCESS_EXCLUSIVE)
        schema.drop(name)


def _truncate(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    words.accept("TABLE")
    words.accept("ONLY")
    for name in words.names():
        table = schema.table(name)
        builder.lock(table, ACCESS_EXCLUSIVE)
        if table and words.has("CASCADE"):
            builder.lock_names(table.children(), ACCESS_EXCLUSIVE)


def _on_a_table(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Forecast a statement that names tables after ON or FROM and locks only those."""
    mode = mode_of(str(words)) or ACCESS_EXCLUSIVE
    builder.lock(schema.table(words.name_after("ON")), mode)
    builder.lock(schema.table(words.name_after("FROM")), mode)


def _create_rule(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    builder.lock(schema.table(words.name_after("TO")), ACCESS_EXCLUSIVE)


def _comment(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    words.accept("ON")
    name = words.name_after("ON")
    if words.accept("COLUMN") and (column := words.name()):
        name = column[:-1]
    elif words.accept("TABLE") or words.accept("INDEX"):
        name = words.name()
    builder.lock(schema.table(name) or schema.owner(name), SHARE_UPDATE)


def _sequence(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Forecast ALTER SEQUENCE: sessions that number rows by it wait, so the lock is
    reported for its table."""
    mode = mode_of(str(words)) or ACCESS_EXCLUSIVE
    words.accept("IF", "EXISTS")
    builder.lock(schema.owner(words.name()), mode)
    if column := words.name_after("OWNED", "BY"):
        builder.lock(schema.table(column[:-1]), ACCESS_SHARE)


def _create_sequence(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    if column := words.name_after("OWNED", "BY"):
        builder.lock(schema.table(column[:-1]), ACCESS_SHARE)


def _drop_sequence(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    words.accept("IF", "EXISTS")
    for name in words.names():
        builder.lock(schema.owner(name), ACCESS_EXCLUSIVE)


def _lock(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    mode = mode_of(str(words)) or ACCESS_EXCLUSIVE
    words.accept("TABLE")
    words.accept("ONLY")
    for name in words.names():
        builder.lock(schema.table(name), mode)


def _vacuum(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    options = words.group()
    full = words.accept("FULL") or bool(options and options.has("FULL"))
    words.accept_any("VERBOSE", "FREEZE", "ANALYZE")
    for name in words.names():
        table = schema.table(name)
        builder.lock(table, ACCESS_EXCLUSIVE if full else SHARE_UPDATE)
        if full:
            builder.rewrite(table)
        elif words.tokens[0].word == "VACUUM":  # ANALYZE takes a sample
            builder.scan(table)


def _cluster(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    words.accept("VERBOSE")
    builder.worst(schema.table(words.name()))


def _nothing(builder: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Forecast a statement that locks no table."""
    del builder, schema, words


_HARMLESS = (
    "SET", "RESET", "SHOW", "BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK",
    "SAVEPOINT", "RELEASE", "GRANT", "REVOKE", "CREATE SCHEMA", "CREATE EXTENSION",
    "CREATE COLLATION", "CREATE TYPE", "CREATE DOMAIN", "CREATE FUNCTION",
    "CREATE OR REPLACE FUNCTION", "CREATE PROCEDURE", "CREATE OR REPLACE PROCEDURE",
    "CREATE AGGREGATE", "CREATE OPERATOR", "CREATE CAST", "CREATE TEXT SEARCH",
    "CREATE ROLE", "CREATE PUBLICATION", "ALTER TYPE", "ALTER FUNCTION", "ALTER ROLE",
    "ALTER COLLATION", "ALTER SCHEMA", "DROP COLLATION", "DROP FUNCTION",
    "DROP STATISTICS", "DROP OPERATOR", "DROP TEXT SEARCH", "DROP CAST", "DROP AGGREGATE",
    "DROP EXTENSION", "DROP VIEW", "DROP TYPE", "DROP DOMAIN", "DROP SCHEMA",
)  # fmt: skip
READERS: dict[str, StatementReader] = {
    **dict.fromkeys(_HARMLESS, _nothing),
    "ALTER TABLE": alter_table,
    "ALTER INDEX": _alter_index,
    "ALTER SEQUENCE": _sequence,
    "CREATE TABLE": _create_table,
    "CREATE UNLOGGED TABLE": _create_table,
    "CREATE TEMPORARY TABLE": _create_table,
    "CREATE TEMP TABLE": _create_table,
    "CREATE INDEX": _create_index,
    "CREATE UNIQUE INDEX": _create_index,
    "CREATE VIEW": _create_view,
    "CREATE OR REPLACE VIEW": _create_view,
    "CREATE MATERIALIZED VIEW": _create_stored_view,
    "REFRESH MATERIALIZED VIEW": _refresh,
    "CREATE SEQUENCE": _create_sequence,
    "CREATE STATISTICS": _on_a_table,
    "CREATE TRIGGER": _on_a_table,
    "CREATE CONSTRAINT TRIGGER": _on_a_table,
    "CREATE OR REPLACE TRIGGER": _on_a_table,
    "CREATE RULE": _create_rule,
    "CREATE OR REPLACE RULE": _create_rule,
    "CREATE POLICY": _on_a_table,
    "DROP TRIGGER": _on_a_table,
    "DROP POLICY": _on_a_table,
    "DROP RULE": _on_a_table,
    "DROP TABLE": _drop_table,
    "DROP MATERIALIZED VIEW": _drop_table,
    "DROP INDEX": _drop_index,
    "DROP SEQUENCE": _drop_sequence,
    "TRUNCATE": _truncate,
    "COMMENT": _comment,
    "LOCK": _lock,
    "VACUUM": _vacuum,
    "ANALYZE": _vacuum,
    "CLUSTER": _cluster,
    "REINDEX": _reindex,
    "INSERT INTO": insert,
    "UPDATE": update,
    "DELETE FROM": delete,
    "SELECT": select,
}
"""The readers of statements, by their first words; the longest match applies."""
