"""What does ALTER TABLE do on PostgreSQL, action by action?"""

from __future__ import annotations

from collections.abc import Callable

from migration_route.vendors.postgresql.forecasting.account import Account
from migration_route.vendors.postgresql.forecasting.columns import (
    add_column,
    add_key,
    alter_column,
    drop_column,
)
from migration_route.vendors.postgresql.forecasting.facts import Check, Index, Table
from migration_route.vendors.postgresql.forecasting.schema import Schema
from migration_route.vendors.postgresql.wishes import (
    ACCESS_EXCLUSIVE,
    ROW_SHARE,
    SHARE_ROW,
    mode_of,
)
from migration_route.vendors.statements import Name
from migration_route.vendors.words import Reading

_CONSTRAINTS = ("CONSTRAINT", "CHECK", "UNIQUE", "PRIMARY", "FOREIGN", "EXCLUDE")
# What follows these words costs a lock and nothing more.
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


def alter_table(account: Account, schema: Schema, words: Reading) -> None:
    """Foretell ALTER TABLE, from behind these two words."""
    words.accept("IF", "EXISTS")
    words.accept("ONLY")
    name = words.name()
    words.accept("*")
    table = schema.table(name)
    if name is None or table is None:
        return  # it fails, or is about a view, or about what an opaque operation makes
    for action in words.parts():
        mode = mode_of(f'ALTER TABLE "x" {action}') or ACCESS_EXCLUSIVE
        account.lock(table, mode)
        _act(account, schema, name, table, action)


def _act(
    account: Account, schema: Schema, name: Name, table: Table, action: Reading
) -> None:
    if action.accept("RENAME"):
        _rename(schema, name, table, action)
        return
    for words, foretell in _ACTIONS:
        if action.accept(*words):
            foretell(account, schema, table, action)
            return
    if not any(action.accept(*words) for words in _LIGHT):
        account.is_understood = False
        account.worst(table)


def _add(account: Account, schema: Schema, table: Table, action: Reading) -> None:
    if any(action.sees(word) for word in _CONSTRAINTS):
        _add_constraint(account, schema, table, action)
    else:
        action.accept("COLUMN")
        add_column(account, schema, table, action)


def _drop(account: Account, schema: Schema, table: Table, action: Reading) -> None:
    del schema
    action.accept("COLUMN")
    drop_column(account, table, action)


def _alter(account: Account, schema: Schema, table: Table, action: Reading) -> None:
    action.accept("COLUMN")
    alter_column(account, schema, table, action)


def _alter_constraint(
    account: Account, schema: Schema, table: Table, action: Reading
) -> None:
    del schema, action
    account.lock_names(table.parents() | table.children(), ACCESS_EXCLUSIVE)


def _partition(account: Account, schema: Schema, table: Table, action: Reading) -> None:
    part = schema.table(action.name())
    account.lock(part, ACCESS_EXCLUSIVE)
    account.scan(part)
    account.scan_names(table.heirs)  # the default partition, to see that it fits
    account.lock_names(table.parents() | table.children(), SHARE_ROW)


def _rewrite(account: Account, schema: Schema, table: Table, action: Reading) -> None:
    del schema, action
    account.rewrite(table)


def _inherit(account: Account, schema: Schema, table: Table, action: Reading) -> None:
    del table
    account.lock(schema.table(action.name()), ACCESS_EXCLUSIVE)


def _add_constraint(
    account: Account, schema: Schema, table: Table, action: Reading
) -> None:
    """Foretell ADD CONSTRAINT: what is there is read, unless it is NOT VALID."""
    name: Name | None = None
    if action.accept("CONSTRAINT"):
        name = action.name()
    label = name[-1] if name else ""
    reads = not action.has("NOT", "VALID")
    if action.accept("CHECK"):
        text = action.group() or Reading(())
        columns = frozenset(word.plain for word in text.tokens if word.names)
        table.checks[label] = Check(columns=columns, is_valid=reads, proves=_proven(text))
    elif action.accept("FOREIGN", "KEY"):
        group = action.group()
        parent = schema.table(action.name_behind("REFERENCES"))
        account.refer(parent)
        if reads and not table.is_empty:
            account.scan(parent)
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
        account.scan(table)


def _proven(text: Reading) -> str | None:
    words = Reading(text.tokens)
    name = words.name()
    if name and words.accept("IS", "NOT", "NULL") and words.is_done:
        return name[-1]
    return None


def _drop_constraint(
    account: Account, schema: Schema, table: Table, action: Reading
) -> None:
    """Foretell DROP CONSTRAINT: a foreign key has triggers on both of its tables."""
    del schema
    action.accept("IF", "EXISTS")
    name = action.name()
    label = name[-1] if name else ""
    key = table.key(label)
    if key is not None:
        account.lock_names({key.parent}, ACCESS_EXCLUSIVE)
        table.keys.remove(key)
    elif label not in table.checks and label not in table.indexes:
        account.lock_names(table.parents(), ACCESS_EXCLUSIVE)  # it may be any of them
    if action.has("CASCADE"):
        account.lock_names(table.children(), ACCESS_EXCLUSIVE)
    table.checks.pop(label, None)
    table.indexes.pop(label, None)


def _validate(account: Account, schema: Schema, table: Table, action: Reading) -> None:
    """Foretell VALIDATE CONSTRAINT: a reading, while others go on."""
    del schema
    name = action.name()
    label = name[-1] if name else ""
    account.scan(table)
    if check := table.checks.get(label):
        check.is_valid = True
        return
    key = table.key(label)
    parents = table.parents() if key is None else {key.parent}
    account.lock_names(parents, ROW_SHARE)
    account.scan_names(parents)


def _rename(schema: Schema, name: Name, table: Table, action: Reading) -> None:
    if action.accept("TO"):
        if new := action.name():
            schema.rename(name, new[-1])
        return
    if action.accept("CONSTRAINT"):
        old, new = action.name(), action.name_behind("TO")
        kept: dict[str, Check] = table.checks
        if old and new and old[-1] in kept:
            kept[new[-1]] = kept.pop(old[-1])
        return
    action.accept("COLUMN")
    old, new = action.name(), action.name_behind("TO")
    if old and new:
        table.rename_column(old[-1], new[-1])


# The first that fits.
_ACTIONS: tuple[
    tuple[tuple[str, ...], Callable[[Account, Schema, Table, Reading], None]], ...
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
