"""What the catalog of SQLite says beyond Django's introspection."""

from __future__ import annotations

from collections.abc import Collection

from django.db.backends.utils import CursorWrapper

_COPY = "new__"


class SQLiteCatalog:
    """Reads pragmas."""

    def columns(self, cursor: CursorWrapper, table: str) -> dict[str, bool]:
        """Return the columns of a table, generated ones included, each with whether it is
        NOT NULL."""
        cursor.execute(
            'SELECT name, "notnull" FROM pragma_table_xinfo(%s) WHERE hidden <> 1', [table]
        )
        return {name: bool(not_null) for name, not_null in cursor.fetchall()}

    def defaults(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return none: a temporary default is never in the table."""
        del cursor, table
        return frozenset()

    def invalid_indexes(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return none: an index exists or does not."""
        del cursor, table
        return frozenset()

    def has_rebuild_copy(self, tables: Collection[str]) -> bool:
        """Find the copy that Django fills before it drops the table itself
        (`DatabaseSchemaEditor._remake_table`)."""
        return any(name.startswith(_COPY) for name in tables)

    def stored(self, name: str) -> str:
        """Return equal names for names that SQLite considers equal: all are
        case-insensitive."""
        return name.strip('"').lower()
