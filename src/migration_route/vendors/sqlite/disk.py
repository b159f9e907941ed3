"""How large are the tables of an SQLite file, and what is free beside it?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.room import Unseen

# Of a table with its indexes; the virtual table is there if SQLite was built with it.
_SIZES = """
SELECT sum(pgsize) FROM dbstat WHERE aggregate = TRUE AND name IN (
    SELECT name FROM sqlite_master WHERE tbl_name IN ({places}))
"""


class SQLiteRooms:
    """The place of one file."""

    keeps_old_rows = False  # a second copy takes the pages of what the first one replaced

    def __init__(self, connection: BaseDatabaseWrapper, file: Path) -> None:
        self._connection = connection
        self._file = file

    def folder(self) -> Path:
        """Return where the file is."""
        return self._file.parent

    def sizes(self, tables: Iterable[str], *, is_exact: bool) -> Mapping[str, int]:
        """Return the bytes of tables; of the whole file where the names are only words,
        or where the pages of a table cannot be counted."""
        names = list(tables)
        if is_exact:
            query = _SIZES.format(places=", ".join(["%s"] * len(names)))
            try:
                with self._connection.cursor() as cursor:
                    cursor.execute(query, names)
                    return {"": int(cursor.fetchone()[0] or 0)}
            except OperationalError as error:
                if "dbstat" not in str(error):
                    raise
        try:
            return {"": self._file.stat().st_size}
        except OSError as error:
            raise Unseen(f"The file cannot be looked at: {error.strerror}.") from error
