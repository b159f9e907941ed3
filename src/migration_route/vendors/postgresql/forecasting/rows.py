"""What do statements about rows do on PostgreSQL?

Locks on single rows are not foretold: they keep out nobody but those who write the same.
"""

from __future__ import annotations

from migration_route.vendors.postgresql.forecasting.account import Account
from migration_route.vendors.postgresql.forecasting.columns import functions_in
from migration_route.vendors.postgresql.forecasting.schema import Schema
from migration_route.vendors.postgresql.wishes import (
    ACCESS_SHARE,
    ROW_EXCLUSIVE,
    ROW_SHARE,
)
from migration_route.vendors.words import Reading


def read_names(account: Account, schema: Schema, words: Reading) -> None:
    """Every table that is named is read: how, the planner of the server decides. What a
    view reads, or a function of the project does, is not known."""
    if not schema.are_the_servers(functions_in(Reading(words.rest))):
        account.is_understood = False
    for name in words.all_names():
        if schema.is_view(name):
            account.is_understood = False
        if table := schema.table(name):
            account.lock(table, ACCESS_SHARE)
            account.scan(table)


def insert(account: Account, schema: Schema, words: Reading) -> None:
    """Rows are added; those that they point to are locked, which lets others write."""
    table = schema.table(words.name())
    words.group()
    read_names(account, schema, words)
    account.lock(table, ROW_EXCLUSIVE)
    if table:
        table.is_empty = False
        account.lock_names(table.parents(), ROW_SHARE)


def delete(account: Account, schema: Schema, words: Reading) -> None:
    """The rows are looked for, and those that point to them."""
    words.accept("ONLY")
    table = schema.table(words.name())
    read_names(account, schema, words)
    account.lock(table, ROW_EXCLUSIVE)
    account.scan(table)
    if table:
        account.lock_names(table.children(), ROW_EXCLUSIVE)
        account.scan_names(table.children())


def update(account: Account, schema: Schema, words: Reading) -> None:
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


def select(account: Account, schema: Schema, words: Reading) -> None:
    """Tables are read, or numbers are taken from a sequence."""
    read_names(account, schema, words)
    called = functions_in(words)
    numbers = bool(called & {"setval", "nextval"})  # of a sequence, told of its table
    if words.has("FOR") or numbers:
        for name in words.all_names():
            account.lock(schema.table(name), ROW_EXCLUSIVE if numbers else ROW_SHARE)
