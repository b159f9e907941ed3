"""What is there? The marks of the live catalog, for the tables that are asked about."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.backends.utils import CursorWrapper

from migration_route.catalog.marks import Mark
from migration_route.vendors import vendor_of
from migration_route.vendors.interface import CatalogReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """What stands in the catalog."""

    marks: frozenset[Mark]
    invalid: frozenset[Mark]  # indexes that are there and are not used
    defaults: frozenset[Mark]  # columns that have one in the database
    has_copy: bool  # a table is being made anew, and its copy is still there


def read_live(alias: str, tables: Collection[str]) -> Live:
    """Return what is there of some tables, by their names as the marks have them.

    Reads through `connections[alias]`. Raises the driver's errors.
    """
    connection = connections[alias]
    reader = vendor_of(alias).catalog
    marks: set[Mark] = set()
    invalid: set[Mark] = set()
    defaults: set[Mark] = set()
    with connection.cursor() as cursor:
        names: list[str] = connection.introspection.table_names(cursor)
        for name in names:
            if (table := reader.stored(name)) in tables:
                broken = reader.invalid_indexes(cursor, name)
                invalid |= {_named(table, reader, index) for index in broken}
                marks |= set(_of_table(cursor, reader, name, broken))
                defaults |= {
                    Mark(kind="default", table=table, words=(reader.stored(column),))
                    for column in reader.defaults(cursor, name)
                }
    return Live(
        marks=frozenset(marks),
        invalid=frozenset(invalid),
        defaults=frozenset(defaults),
        has_copy=reader.is_being_made_anew(names),
    )


def _named(table: str, reader: CatalogReader, name: str) -> Mark:
    return Mark(kind="named", table=table, words=(reader.stored(name),))


def _of_table(
    cursor: CursorWrapper, reader: CatalogReader, name: str, broken: Collection[str]
) -> Iterator[Mark]:
    table = reader.stored(name)
    yield Mark(kind="table", table=table)
    for column, not_null in reader.columns(cursor, name).items():
        words = (reader.stored(column),)
        yield Mark(kind="column", table=table, words=words)
        if not_null:
            yield Mark(kind="not_null", table=table, words=words)
    constraints = cursor.db.introspection.get_constraints(cursor, name)
    for constraint, facts in constraints.items():
        if constraint in broken:
            continue
        yield _named(table, reader, constraint)
        columns = tuple(map(reader.stored, filter(None, facts["columns"] or ())))
        for kind in _kinds(facts):
            yield Mark(kind=kind, table=table, words=columns)


def _kinds(facts: dict[str, Any]) -> Iterator[str]:
    if facts["primary_key"]:
        yield "primary_key"
    elif facts["unique"]:
        yield "unique"
    elif facts["index"]:
        yield "index"
    if facts["foreign_key"]:
        yield "foreign_key"
