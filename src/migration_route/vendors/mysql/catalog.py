"""What does the catalog of MySQL say that Django's introspection leaves out?"""

from __future__ import annotations

from collections.abc import Collection

from django.db.backends.utils import CursorWrapper

_COLUMNS = """
    SELECT column_name, is_nullable = 'NO'
    FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = %s
"""
_DEFAULTS = """
    SELECT column_name
    FROM information_schema.columns
    WHERE table_schema = DATABASE() AND table_name = %s
      AND column_default IS NOT NULL AND column_default <> 'NULL'
"""


class MySQLCatalog:
    """Read from information_schema."""

    def columns(self, cursor: CursorWrapper, table: str) -> dict[str, bool]:
        """Return the columns of a table, each with whether it is NOT NULL."""
        cursor.execute(_COLUMNS, [table])
        return {name: bool(not_null) for name, not_null in cursor.fetchall()}

    def defaults(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return the columns that have one; MariaDB writes NULL where there is none."""
        cursor.execute(_DEFAULTS, [table])
        return frozenset(name for (name,) in cursor.fetchall())

    def invalid_indexes(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return none: an index is there or it is not."""
        del cursor, table
        return frozenset()

    def is_being_made_anew(self, tables: Collection[str]) -> bool:
        """Tell that none is: this database alters tables where they stand."""
        del tables
        return False

    def stored(self, name: str) -> str:
        """Return a name so that two that the server takes for one are equal: those of
        columns, indexes and constraints have no case (manual, 9.2.3). Two tables that
        differ in nothing but case are not told apart."""
        return name.strip("`").lower()
