"""What do statements other than ALTER TABLE do on PostgreSQL?

Each function reads a statement from behind the words under which it stands in `READERS`.

What do statements about rows do on PostgreSQL?

Locks on single rows are not foretold: they keep out nobody but those who write the same.
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
    add_key,
    alter_table,
    functions_in,
)
from migration_route.vendors.postgresql.forecast.effects import (
    Column,
    ForecastBuilder,
    Index,
)
from migration_route.vendors.postgresql.forecast.schema import Schema
from migration_route.vendors.sql_statements import TokenStream


def read_names(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Every table that is named is read: how, the planner of the server decides. What a
    view reads, or a function of the project does, is not known."""
    if not schema.are_the_servers(functions_in(TokenStream(words.rest))):
        account.is_understood = False
    for name in words.all_names():
        if schema.is_view(name):
            account.is_understood = False
        if table := schema.table(name):
            account.lock(table, ACCESS_SHARE)
            account.scan(table)


def insert(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Rows are added; those that they point to are locked, which lets others write."""
    table = schema.table(words.name())
    words.group()
    read_names(account, schema, words)
    account.lock(table, ROW_EXCLUSIVE)
    if table:
        table.is_empty = False
        account.lock_names(table.parents(), ROW_SHARE)


def delete(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """The rows are looked for, and those that point to them."""
    words.accept("ONLY")
    table = schema.table(words.name())
    read_names(account, schema, words)
    account.lock(table, ROW_EXCLUSIVE)
    account.scan(table)
    if table:
        account.lock_names(table.children(), ROW_EXCLUSIVE)
        account.scan_names(table.children())


def update(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """The rows are looked for; foreign keys are looked after where theirs are columns
    that change."""
    words.accept("ONLY")
    table = schema.table(words.name())
    read_names(account, schema, words)
    account.lock(table, ROW_EXCLUSIVE)
    account.scan(table)
    words.skip_to("SET")
    if table is None:
        return
    for change in words.until("FROM", "WHERE", "RETURNING").parts():
        group = change.group()
        for name in group.names() if group else [change.name()]:
            column = name[-1] if name else None
            account.lock_names(table.parents(column=column), ROW_SHARE)
            account.lock_names(table.children(column=column), ROW_EXCLUSIVE)
            account.scan_names(table.children(column=column))


def select(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """Tables are read, or numbers are taken from a sequence."""
    read_names(account, schema, words)
    called = functions_in(words)
    numbers = bool(called & {"setval", "nextval"})  # of a sequence, told of its table
    if words.has("FOR") or numbers:
        for name in words.all_names():
            account.lock(schema.table(name), ROW_EXCLUSIVE if numbers else ROW_SHARE)


Reader = Callable[[ForecastBuilder, Schema, TokenStream], None]


def _create_table(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """A new table: nobody waits for it, but the tables that it points to are locked."""
    is_optional = words.accept("IF", "NOT", "EXISTS")
    name = words.name()
    if name is None or (is_optional and schema.table(name) is not None):
        return
    if words.has("PARTITION", "OF"):
        account.worst(schema.table(words.name_behind("PARTITION", "OF")))
    table = schema.create(name)
    group = words.group()
    for part in group.parts() if group else ():
        if parent_name := part.name_behind("REFERENCES"):
            parent = schema.table(parent_name)
            account.refer(parent)
            add_key(table, parent, name="", columns=())
        if part.accept("LIKE"):
            account.lock(schema.table(part.name()), ACCESS_SHARE)
        elif column := part.name():
            kind = str(
                part.until("CONSTRAINT", "NOT", "NULL", "CHECK", "DEFAULT", "UNIQUE")
            )
            table.columns[column[-1]] = Column(type=kind)
    if words.skip_to("INHERITS") and (ancestors := words.group()):
        for ancestor in ancestors.names():
            account.lock(schema.table(ancestor), SHARE_UPDATE)
    if words.has("AS"):
        table.is_empty = False
        read_names(account, schema, words)


def _create_view(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    words.accept("IF", "NOT", "EXISTS")
    view = schema.table(words.name())
    account.lock(view, ACCESS_EXCLUSIVE)
    for name in words.all_names():
        account.lock(schema.table(name), ACCESS_SHARE)


def _create_stored_view(
    account: ForecastBuilder, schema: Schema, words: TokenStream
) -> None:
    words.accept("IF", "NOT", "EXISTS")
    if name := words.name():
        schema.create(name)
    read_names(account, schema, words)


def _refresh(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    mode = mode_of(str(words)) or ACCESS_EXCLUSIVE
    words.accept("CONCURRENTLY")
    view = schema.table(words.name())
    account.lock(view, mode)
    account.rewrite(view)
    account.is_understood = False  # what it reads stands in its definition alone


def _create_index(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """The table is read; who writes waits, unless it is built concurrently."""
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
    account.lock(table, mode)
    account.scan(table)
    words.skip_to("(")
    plain = not words.has("WHERE") and not any(t.word == "(" for t in words.rest)
    columns = frozenset(token.plain for token in words.rest if token.names)
    if name:
        schema.add_index(name[-1], table, Index(columns=columns, is_plain=plain))


def _drop_index(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    mode = SHARE_UPDATE if words.accept("CONCURRENTLY") else ACCESS_EXCLUSIVE
    is_optional = words.accept("IF", "EXISTS")
    for name in words.names():
        table = schema.owner(name)
        if table is None:
            # One that no earlier statement has made: which table it is on, nobody knows.
            account.is_understood = account.is_understood and is_optional
            continue
        account.lock(table, mode)
        table.indexes.pop(name[-1], None)
        schema.drop(name)


def _alter_index(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    mode = mode_of(str(words)) or ACCESS_EXCLUSIVE
    words.accept("IF", "EXISTS")
    name = words.name()
    table = schema.owner(name)
    account.lock(table, mode)
    if words.accept("RENAME", "TO") and (new := words.name()) and name and table:
        index = table.indexes.pop(name[-1], Index(is_plain=False))
        schema.drop(name)
        schema.add_index(new[-1], table, index)
    if words.accept("ATTACH", "PARTITION"):
        account.lock(schema.owner(words.name()), ACCESS_EXCLUSIVE)


def _reindex(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    words.group()
    is_whole = not (words.accept("INDEX") or words.accept("TABLE"))
    mode = SHARE_UPDATE if words.accept("CONCURRENTLY") else ACCESS_EXCLUSIVE
    if is_whole:
        account.is_understood = False  # a schema, or the database: whatever is in it
        return
    name = words.name()
    table = schema.table(name) or schema.owner(name)
    account.lock(table, mode)
    account.scan(table)


def _drop_table(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """The table, and both ways along foreign keys: their triggers stand on both tables."""
    words.accept("IF", "EXISTS")
    for name in words.names():
        table = schema.table(name)
        if table is None:
            continue
        account.lock(table, ACCESS_EXCLUSIVE)
        account.lock_names(table.parents(), ACCESS_EXCLUSIVE)
        if words.has("CASCADE"):
            account.lock_names(table.children(), ACCESS_EXCLUSIVE)
        schema.drop(name)


def _truncate(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    words.accept("TABLE")
    words.accept("ONLY")
    for name in words.names():
        table = schema.table(name)
        account.lock(table, ACCESS_EXCLUSIVE)
        if table and words.has("CASCADE"):
            account.lock_names(table.children(), ACCESS_EXCLUSIVE)


def _on_a_table(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """What is about tables behind ON or FROM, and locks just those."""
    mode = mode_of(str(words)) or ACCESS_EXCLUSIVE
    account.lock(schema.table(words.name_behind("ON")), mode)
    account.lock(schema.table(words.name_behind("FROM")), mode)


def _create_rule(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    account.lock(schema.table(words.name_behind("TO")), ACCESS_EXCLUSIVE)


def _comment(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    words.accept("ON")
    name = words.name_behind("ON")
    if words.accept("COLUMN") and (column := words.name()):
        name = column[:-1]
    elif words.accept("TABLE") or words.accept("INDEX"):
        name = words.name()
    account.lock(schema.table(name) or schema.owner(name), SHARE_UPDATE)


def _sequence(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """A sequence; whoever numbers rows by it waits, so the lock is told of its table."""
    mode = mode_of(str(words)) or ACCESS_EXCLUSIVE
    words.accept("IF", "EXISTS")
    account.lock(schema.owner(words.name()), mode)
    if column := words.name_behind("OWNED", "BY"):
        account.lock(schema.table(column[:-1]), ACCESS_SHARE)


def _create_sequence(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    if column := words.name_behind("OWNED", "BY"):
        account.lock(schema.table(column[:-1]), ACCESS_SHARE)


def _drop_sequence(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    words.accept("IF", "EXISTS")
    for name in words.names():
        account.lock(schema.owner(name), ACCESS_EXCLUSIVE)


def _lock(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    mode = mode_of(str(words)) or ACCESS_EXCLUSIVE
    words.accept("TABLE")
    words.accept("ONLY")
    for name in words.names():
        account.lock(schema.table(name), mode)


def _vacuum(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    options = words.group()
    full = words.accept("FULL") or bool(options and options.has("FULL"))
    words.accept_any("VERBOSE", "FREEZE", "ANALYZE")
    for name in words.names():
        table = schema.table(name)
        account.lock(table, ACCESS_EXCLUSIVE if full else SHARE_UPDATE)
        if full:
            account.rewrite(table)
        elif words.tokens[0].word == "VACUUM":  # ANALYZE takes a sample
            account.scan(table)


def _cluster(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    words.accept("VERBOSE")
    account.worst(schema.table(words.name()))


def _nothing(account: ForecastBuilder, schema: Schema, words: TokenStream) -> None:
    """No table is locked."""
    del account, schema, words


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
READERS: dict[str, Reader] = {
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
"""Who reads a statement, by its first words; the longest that fit."""
