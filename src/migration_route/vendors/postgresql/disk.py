"""Where are the tables of PostgreSQL, and how large? Only a server on this host is known.

A data directory on this host is looked at when it is proved to be that of the server: its
`postmaster.pid` says when the server started.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.room import Unseen
from migration_route.vendors.statements import quoted_parts

_SLACK = 5  # seconds between the file and what the server says of its start
_START_LINE = 2  # of postmaster.pid (src/include/utils/pidfile.h)
# A table space is a folder of its own; one in place is told from the data directory on.
_SIZES = """
SELECT coalesce(pg_tablespace_location(
           CASE c.reltablespace WHEN 0 THEN d.dattablespace ELSE c.reltablespace END), ''),
       sum(pg_total_relation_size(c.oid))::bigint
FROM unnest(%s::text[]) AS n(name) JOIN pg_class c ON {matches}
JOIN pg_database d ON d.datname = current_database()
WHERE c.relkind IN ('r', 'm', 'p') GROUP BY 1
"""
_BY_NAME = "c.oid = to_regclass(n.name)"
_BY_WORD = "c.relname = n.name AND c.relnamespace <> 'pg_catalog'::regnamespace"
_WHERE = """
SELECT setting, extract(epoch FROM pg_postmaster_start_time())::bigint
FROM pg_settings WHERE name = 'data_directory'
"""


class PostgreSQLRooms:
    """The places of one database."""

    keeps_old_rows = True  # "the table is rewritten": its old file goes at the commit

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection

    def folder(self) -> Path:
        """Return the server's data directory. Raises `Unseen`."""
        with self._connection.cursor() as cursor:
            cursor.execute(_WHERE)
            found = cursor.fetchone()
        if found is None:
            raise Unseen(
                "This role may not see where the data is: pg_read_all_settings shows it."
            )
        name, started = found
        folder = Path(name)
        try:
            lines = (folder / "postmaster.pid").read_text().splitlines()
            start = int(lines[_START_LINE])
        except FileNotFoundError as error:
            raise Unseen("The server's disk is not on this host.") from error
        except (OSError, ValueError, IndexError) as error:
            raise Unseen(
                "The server's data directory may not be read by this process."
            ) from error
        if abs(start - started) > _SLACK:
            raise Unseen("The server's disk is not on this host.")
        return folder

    def sizes(self, tables: Iterable[str], *, is_exact: bool) -> Mapping[str, int]:
        """Return the bytes of tables, with indexes and what is stored apart, by the
        folder of their table space."""
        names = [quoted_parts(name) for name in tables] if is_exact else list(tables)
        query = _SIZES.format(matches=_BY_NAME if is_exact else _BY_WORD)
        with self._connection.cursor() as cursor:
            cursor.execute(query, [names])
            return {place: int(size) for place, size in cursor.fetchall()}
