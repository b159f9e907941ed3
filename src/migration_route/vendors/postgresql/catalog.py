"""What the catalog of PostgreSQL says beyond Django's introspection, including states that
make migrations fail."""

from __future__ import annotations

import re

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from migration_route.vendors.base import (
    CatalogProblems,
    CatalogReader,
    InvalidIndex,
    SequenceBehind,
)

_LONGEST_NAME = 63  # bytes; the server truncates longer names (manual, 4.1.1)

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


class PostgreSQLCatalog(CatalogReader):
    """Reads pg_catalog, which a lock on the table itself does not block."""

    def columns(self, cursor: CursorWrapper, table: str) -> dict[str, bool]:
        cursor.execute(_COLUMNS, [table])
        return dict(cursor.fetchall())

    def defaults(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return the columns with a default, except sequences and generated columns."""
        cursor.execute(_DEFAULTS, [table])
        return frozenset(name for (name,) in cursor.fetchall())

    def invalid_indexes(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return the indexes that an interrupted CREATE INDEX CONCURRENTLY left behind."""
        cursor.execute(_INVALID, [table])
        return frozenset(name for (name,) in cursor.fetchall())

    def stored(self, name: str) -> str:
        name = name.strip('"')
        return name.encode()[:_LONGEST_NAME].decode(errors="ignore")


# Excludes indexes that are being built, and the index of a partitioned table, which is
# invalid until each partition has its own (manual, CREATE INDEX).
_ALL_INVALID = """
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


def catalog_problems(connection: BaseDatabaseWrapper) -> CatalogProblems:
    with connection.cursor() as cursor:
        return CatalogProblems(
            invalid_indexes=tuple(_invalid_indexes(cursor)), sequence_behind=_behind(cursor)
        )


def _invalid_indexes(cursor: CursorWrapper) -> list[InvalidIndex]:
    cursor.execute(_ALL_INVALID)
    return [
        InvalidIndex(name=name, table=table, quoted=quoted)
        for name, table, quoted in cursor.fetchall()
    ]


def _behind(cursor: CursorWrapper) -> SequenceBehind | None:
    """Compare the sequence of the recorder's ids with those that are taken."""
    cursor.execute(_SEQUENCE)
    row = cursor.fetchone()
    if row is None or row[0] is None:
        return None
    sequence = row[0]  # quoted, with its schema
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


def colliding_index(connection: BaseDatabaseWrapper, sql: str) -> str | None:
    """Return the statement that drops the invalid index with which `sql` collides.

    None unless `sql` creates an index concurrently and an invalid one has its name.
    """
    match = _MAKES_INDEX.match(sql)
    if match is None:
        return None
    quoted, plain = match["quoted"], match["plain"]
    name = quoted.replace('""', '"') if quoted else plain.lower()
    with connection.cursor() as cursor:
        found = [index for index in _invalid_indexes(cursor) if index.name == name]
    return f"DROP INDEX CONCURRENTLY {found[0].quoted}" if found else None
