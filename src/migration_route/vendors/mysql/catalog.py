"""What a server of MySQL or MariaDB reports: the identity of a database, its catalog beyond
Django's introspection, and the tables as a statement finds them, each queried once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

from migration_route.vendors import fetch_rows
from migration_route.vendors.base import CatalogReader, DatabaseIdentity
from migration_route.vendors.sql_statements import Name, TableNames


def text_of(value: Any) -> str:
    """Return a value as text; some drivers return bytes."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


_DATABASE = "SELECT DATABASE(), @@GLOBAL.lower_case_table_names"
_MARKS = """
SHOW GLOBAL VARIABLES WHERE Variable_name IN ('server_uuid', 'server_uid', 'server_id',
'hostname', 'port', 'socket', 'datadir', 'group_replication_group_name')
"""
_CLUSTER = "SHOW GLOBAL STATUS WHERE Variable_name = 'wsrep_cluster_state_uuid'"
_NO_CLUSTER = "00000000-0000-0000-0000-000000000000"


def identity_of_session(session: Any) -> DatabaseIdentity:
    """Return the identity of the database of a mysqlclient or PyMySQL session.

    The members of a Galera cluster or of a replication group have the same databases: they
    count as one server.
    """
    with session.cursor() as cursor:
        ((name, folds),) = _rows(cursor, _DATABASE)
        marks = {str(key): str(value or "") for key, value in _rows(cursor, _MARKS)}
        clusters = [str(value or "") for _, value in _rows(cursor, _CLUSTER)]
    groups = [*clusters, marks.pop("group_replication_group_name", "")]
    group = next((one for one in groups if one and one != _NO_CLUSTER), "")
    marks_of_server = " ".join(f"{key}={marks[key]}" for key in sorted(marks))
    label = text_of(name or "")
    return DatabaseIdentity(
        server=group or marks_of_server,
        name=label.lower() if int(folds) else label,
        label=label,
    )


def current_database(session: Any) -> str:
    """Return the name of the session's database; "" for none."""
    with session.cursor() as cursor:
        ((name,),) = _rows(cursor, "SELECT DATABASE()")
    return text_of(name or "")


def _rows(cursor: Any, sql: str) -> list[tuple[Any, ...]]:
    cursor.execute(sql)
    return [
        tuple(row.values()) if isinstance(row, dict) else tuple(row)
        for row in cursor.fetchall()
    ]


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


class MySQLCatalog(CatalogReader):
    def columns(self, cursor: CursorWrapper, table: str) -> dict[str, bool]:
        cursor.execute(_COLUMNS, [table])
        return {name: bool(not_null) for name, not_null in cursor.fetchall()}

    def defaults(self, cursor: CursorWrapper, table: str) -> frozenset[str]:
        """Return the columns with a default; MariaDB writes NULL if there is none."""
        cursor.execute(_DEFAULTS, [table])
        return frozenset(name for (name,) in cursor.fetchall())

    def stored(self, name: str) -> str:
        """Return equal names for names that the server considers equal: those of columns,
        indexes and constraints are case-insensitive (manual, 9.2.3). Two tables that differ
        only in case are not distinguished."""
        return name.strip("`").lower()


_SCHEMA_COLUMNS = """
SELECT column_name, lower(column_type), is_nullable = 'YES', coalesce(collation_name, ''),
       coalesce(character_octet_length, 0), coalesce(extra, '')
FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = %s
"""
_INDEXED = """
SELECT DISTINCT column_name, index_name, index_type FROM information_schema.statistics
WHERE table_schema = DATABASE() AND table_name = %s AND column_name IS NOT NULL
"""
_PARENTS = """
SELECT constraint_name, column_name, referenced_table_name, table_name = %s
FROM information_schema.key_column_usage
WHERE table_schema = DATABASE() AND referenced_table_name IS NOT NULL
  AND (table_name = %s OR referenced_table_name = %s)
"""
_ENGINE = """
SELECT engine, row_format FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name = %s
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    is_mariadb: bool
    version: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnInfo:
    """A column; `bytes` is the maximum size of a text in it."""

    type: str
    is_nullable: bool
    collation: str = ""
    bytes: int = 0
    extra: str = ""


@dataclass(slots=True, kw_only=True)
class TableInfo:
    """What the catalog says of a table."""

    is_innodb: bool = True
    is_compressed: bool = False
    has_fulltext: bool = False
    columns: dict[str, ColumnInfo] = field(default_factory=dict)
    indexed: frozenset[str] = frozenset()
    keys: dict[str, str] = field(default_factory=dict)  # foreign keys and their parents
    bound: frozenset[str] = frozenset()  # columns in a foreign key of this or another table

    @property
    def parents(self) -> frozenset[str]:
        """The tables that foreign keys of this table reference."""
        return frozenset(self.keys.values())

    def forget(self, names: Iterable[Name]) -> None:
        """Discard what is known of columns with these names."""
        for name in names:
            self.columns.pop(name[-1].lower(), None)
            self.has_fulltext = self.has_fulltext or name == ("fulltext",)


class SchemaInfo:
    """The tables by name, as the statements of a plan leave them."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._facts: dict[str, TableInfo] = {}
        names = fetch_rows(
            connection,
            "SELECT table_name FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'",
        )
        self.tables = TableNames(name for (name,) in names)
        [(version,)] = fetch_rows(connection, "SELECT version()")
        self.server = ServerInfo(
            is_mariadb="mariadb" in version.lower(),
            version=tuple(int(part) for part in version.split("-")[0].split(".")[:3]),
        )

    def facts(self, table: str) -> TableInfo:
        """Return what the catalog says of an existing table."""
        if table not in self._facts:
            self._facts[table] = self._looked_up(table)
        return self._facts[table]

    def _looked_up(self, table: str) -> TableInfo:
        columns = {
            name.lower(): ColumnInfo(
                type=text_of(kind),
                is_nullable=bool(nullable),
                collation=collation,
                bytes=int(octets),
                extra=extra.lower(),
            )
            for name, kind, nullable, collation, octets, extra in fetch_rows(
                self._connection, _SCHEMA_COLUMNS, [table]
            )
        }
        indexed = fetch_rows(self._connection, _INDEXED, [table])
        keys = fetch_rows(self._connection, _PARENTS, [table, table, table])
        [(engine, row_format)] = fetch_rows(self._connection, _ENGINE, [table])
        return TableInfo(
            is_innodb=str(engine).lower() == "innodb",
            is_compressed=str(row_format).lower() == "compressed",
            has_fulltext=any(kind == "FULLTEXT" for _, _, kind in indexed),
            columns=columns,
            indexed=frozenset(name.lower() for name, _, _ in indexed),
            keys={name.lower(): parent for name, _, parent, is_here in keys if is_here},
            bound=frozenset(column.lower() for _, column, _, is_here in keys if is_here),
        )
