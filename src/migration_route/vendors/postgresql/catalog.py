"""What does the catalog of PostgreSQL say that Django's introspection leaves out?

What stands in PostgreSQL's catalog that makes migrations fail?
"""

from __future__ import annotations

import re
from collections.abc import Collection

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from migration_route.vendors.base import CatalogProblems, InvalidIndex, SequenceBehind

_LONGEST_NAME = 63  # bytes; longer ones are cut by the server (manual, 4.1.1)

_COLUMNS = """
    SELECT a.attname, a.attnotnull
    FROM pg_attribute a
    JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.relname = %s AND c.relkind IN ('r', 'p', 'f')
      AND pg_table_is_visible(c.oid) AND a.attnum > 0 AND NOT a.attisdropped
"""
_DEFAULTS = """
    SELECT a.attname
    FROM pg_attrdef d
    JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    JOIN pg_class c ON c.oid = d.adrelid
    WHERE c.relname = %s AND pg_table_is_visible(c.oid) AND a.attgenerated = ''
      AND NOT starts_with(pg_get_expr(d.adbin, d.adrelid), 'nextval(')
"""
_INVALID = """
    SELECT i.relname
    FROM pg_index x
    JOIN pg_class i ON i.oid = x.indexrelid
    JOIN pg_class c ON c.oid = x.indrelid
    WHERE c.relname = %s AND pg_table_is_visible(c.oid)
      AND NOT (x.indisvalid AND x.indisready)
"""


class PostgreSQLCatalog:
    """Read from pg_catalog, which a lock on the table itself does not close."""

    def columns(self, cursor: CursorWrapper, table: str) -> dict[str, bool]:
        """Return the columns of a table, each with whether it is NOT NULL."""
        cursor.execute(_COLUMNS, [table])
        return dict(cursor.fetchall())

    def defaults(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return the columns that have one, but for sequences and generated columns."""
        cursor.execute(_DEFAULTS, [table])
        return frozenset(name for (name,) in cursor.fetchall())

    def invalid_indexes(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return the indexes that an interrupted CREATE INDEX CONCURRENTLY has left."""
        cursor.execute(_INVALID, [table])
        return frozenset(name for (name,) in cursor.fetchall())

    def is_being_made_anew(self, tables: Collection[str]) -> bool:
        """Tell that none is: this database alters tables where they stand."""
        del tables
        return False

    def stored(self, name: str) -> str:
        """Return a name of a table, column or index as the server keeps it."""
        name = name.strip('"')
        return name.encode()[:_LONGEST_NAME].decode(errors="ignore")


# Not those that somebody is building at this moment, and not the index of a partitioned
# table, which is invalid until each partition has its own (manual, CREATE INDEX).
_TROUBLES_INVALID = """
SELECT made.relname, indexed.relname, format('%I.%I', space.nspname, made.relname)
FROM pg_index
JOIN pg_class made ON made.oid = pg_index.indexrelid
JOIN pg_class indexed ON indexed.oid = pg_index.indrelid
JOIN pg_namespace space ON space.oid = made.relnamespace
WHERE NOT pg_index.indisvalid
AND made.relkind = 'i'
AND pg_table_is_visible(indexed.oid)
AND space.nspname NOT IN ('pg_catalog', 'information_schema')
AND NOT EXISTS (
    SELECT FROM pg_stat_progress_create_index building
    WHERE building.index_relid = made.oid
)
ORDER BY indexed.relname, made.relname
"""
_SEQUENCE = """
SELECT pg_get_serial_sequence('django_migrations', 'id')
WHERE to_regclass('django_migrations') IS NOT NULL
"""
_MAKES_INDEX = re.compile(
    r"\s*CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"
    r"(?:\"(?P<quoted>(?:[^\"]|\"\")+)\"|(?P<plain>[\w$]+))",
    re.IGNORECASE,
)


def troubles(connection: BaseDatabaseWrapper) -> CatalogProblems:
    """Return what is wrong in the catalog of the connection's database."""
    with connection.cursor() as cursor:
        return CatalogProblems(
            invalid_indexes=tuple(_invalid_indexes(cursor)), sequence_behind=_behind(cursor)
        )


def _invalid_indexes(cursor: CursorWrapper) -> list[InvalidIndex]:
    cursor.execute(_TROUBLES_INVALID)
    return [
        InvalidIndex(name=name, table=table, quoted=quoted)
        for name, table, quoted in cursor.fetchall()
    ]


def _behind(cursor: CursorWrapper) -> SequenceBehind | None:
    """Compare the sequence of the recorder's ids with those that are taken."""
    cursor.execute(_SEQUENCE)
    found = cursor.fetchone()
    if found is None or found[0] is None:
        return None
    sequence = found[0]  # quoted, with its schema
    # The name comes from the catalog, quoted.
    cursor.execute(f"SELECT last_value, is_called FROM {sequence}")  # noqa: S608
    last_value, is_called = cursor.fetchone()
    cursor.execute("SELECT max(id) FROM django_migrations")
    (last_id,) = cursor.fetchone()
    next_id = last_value + 1 if is_called else last_value
    if last_id is None or next_id > last_id:
        return None
    return SequenceBehind(
        next_id=next_id,
        last_id=last_id,
        remedy=f"SELECT setval('{sequence}', {last_id});",
    )


def index_in_the_way(connection: BaseDatabaseWrapper, sql: str) -> str | None:
    """Return the statement that drops the invalid index which stands in the way of `sql`.

    None unless `sql` makes an index concurrently and an invalid one has its name.
    """
    match = _MAKES_INDEX.match(sql)
    if match is None:
        return None
    quoted, plain = match["quoted"], match["plain"]
    name = quoted.replace('""', '"') if quoted else plain.lower()
    with connection.cursor() as cursor:
        found = [index for index in _invalid_indexes(cursor) if index.name == name]
    return f"DROP INDEX CONCURRENTLY {found[0].quoted}" if found else None
