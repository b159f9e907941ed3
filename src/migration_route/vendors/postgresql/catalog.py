"""What does the catalog of PostgreSQL say that Django's introspection leaves out?"""

from __future__ import annotations

from collections.abc import Collection

from django.db.backends.utils import CursorWrapper

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
