"""Copies of SQLite files by the backup API, into a file beside the original. A rehearsal in
place is not possible."""

from __future__ import annotations

import re
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.errors import CannotRehearse
from migration_route.vendors import identity_of
from migration_route.vendors.base_rehearsal import (
    TABLES_READ_BY_MIGRATE,
    CheckAlive,
    Copies,
    InPlaceSupport,
    StatementEffects,
    StatementObserver,
    connection_with_settings,
    require_copy,
    require_removable,
)
from migration_route.vendors.sql_lexer import SQLITE
from migration_route.vendors.sql_statements import code_of
from migration_route.vendors.sqlite.files import (
    attached_files,
    device_and_inode,
    file_of,
    file_of_settings,
    path_of,
)

_PAGES = 2000  # per batch; other connections can write between two batches
_RESTARTS = 20  # of a backup while the file is written
_REBUILT = re.compile(r'^\s*ALTER TABLE "new__(.+)" RENAME TO', re.IGNORECASE)
_LEAVES = re.compile(r"^(attach|detach|vacuum\s+into)\b", re.IGNORECASE)


class SQLiteCopies(Copies):
    """Makes copies as files beside the original, on the same disk."""

    name_options = ("database",)

    def require(self, connection: BaseDatabaseWrapper, *, with_data: bool) -> None:
        """Check for attached files, and for space."""
        connection.ensure_connection()
        if attached := attached_files(connection.connection):
            raise CannotRehearse(
                f"The connection attaches {', '.join(attached)}: a copy would share it "
                "with the original.",
                hint="Remove ATTACH from init_command.",
            )
        path = file_of(connection)
        size = path.stat().st_size if path.exists() else 0
        free = shutil.disk_usage(path.parent).free
        if with_data and size > free:
            raise CannotRehearse(
                f"A copy needs {size / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free.",
                hint="Rehearse the schema only.",
            )

    def settings(self, settings: dict[str, Any], name: str) -> dict[str, Any]:
        return super().settings(settings, str(_path(settings, name)))

    def make(
        self,
        connection: BaseDatabaseWrapper,
        name: str,
        *,
        with_data: bool,
        alive: CheckAlive,
    ) -> None:
        path = _path(connection.settings_dict, name)
        path.touch(mode=0o600, exist_ok=False)
        with connection_with_settings(
            connection, self.settings(connection.settings_dict, name)
        ) as other:
            require_copy(connection, other, name=device_and_inode(path))
        original = file_of(connection).as_uri()
        with (
            closing(sqlite3.connect(f"{original}?mode=ro", uri=True, timeout=5)) as source,
            closing(sqlite3.connect(path)) as copy,
        ):
            if with_data:
                _back_up(source, copy, alive)
            else:
                _copy_schema(source, copy)

    def remove(self, connection: BaseDatabaseWrapper, name: str) -> None:
        require_removable(connection, name)
        path = _path(connection.settings_dict, name)
        if path.exists() and device_and_inode(path) == identity_of(connection).name:
            raise CannotRehearse(f"{path} is the original itself. It was not removed.")
        for file in path.parent.glob(f"{path.name}*"):
            if file.is_dir():
                shutil.rmtree(file)
            else:
                file.unlink(missing_ok=True)

    def schema(self, connection: BaseDatabaseWrapper) -> list[str]:
        """Return tables and indexes as the pragmas report them: the text of a table changes
        when Django rebuilds it."""
        lines: list[str] = []
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT type, name, sql FROM sqlite_master "
                "WHERE name NOT LIKE 'sqlite%%' ORDER BY 1, 2"
            )
            for kind, name, sql in cursor.fetchall():
                lines.append(f"{kind} {name}")
                if kind != "table":
                    lines.append(f"  {' '.join((sql or '').split())}")
                    continue
                for pragma in ("table_info", "foreign_key_list"):
                    cursor.execute(f"PRAGMA {pragma}({connection.ops.quote_name(name)})")
                    rows = sorted(map(str, (row[1:] for row in cursor.fetchall())))
                    lines += [f"  {name} {row}" for row in rows]
        return lines

    def leaves(
        self, sql: str, home: str, connection: BaseDatabaseWrapper | None = None
    ) -> str:
        del home, connection
        for code in code_of(sql, SQLITE):
            if found := _LEAVES.match(code):
                return f"{found[1].upper()} opens another file"
        return ""

    def watch_drivers(
        self, look: Callable[[str], None], verify: Callable[[Any], None] | None = None
    ) -> None:
        """Use Python's own audit event, which precedes the opening of a file."""
        del verify

        def audit(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "sqlite3.connect" and arguments:
                name = arguments[0]
                name = name.decode() if isinstance(name, bytes) else str(name)
                look(str(path_of(name)))

        sys.addaudithook(audit)

    def observer(self) -> StatementObserver:
        return SQLiteObserver()


class SQLiteObserver(StatementObserver):
    """Observes tables that Django rebuilds; locks are on the whole file."""

    blind = "SQLite locks the whole file for its one writer, whatever the statement."

    def look(self, connection: BaseDatabaseWrapper, sql: str) -> StatementEffects:
        """Detect that the copy of a table replaces it."""
        del connection
        found = _REBUILT.match(sql)
        return StatementEffects(rewrites=(found[1],) if found else ())


def _path(settings: dict[str, Any], name: str) -> Path:
    return file_of_settings(settings).with_name(f"{name}.sqlite3")


def _back_up(
    source: sqlite3.Connection, copy: sqlite3.Connection, alive: CheckAlive
) -> None:
    """Copy page by page; a write by another connection restarts the backup."""
    restarts, left = 0, None

    def on_progress(status: int, remaining: int, total: int) -> None:
        nonlocal restarts, left
        del status, total
        alive()
        restarts += left is not None and remaining > left
        left = remaining
        if restarts > _RESTARTS:
            raise CannotRehearse(
                "The file is written too often to be copied with its data.",
                hint="Rehearse the schema only, or at a quieter time.",
            )

    source.backup(copy, pages=_PAGES, progress=on_progress, sleep=0.01)


def _copy_schema(source: sqlite3.Connection, copy: sqlite3.Connection) -> None:
    objects = source.execute(
        "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL "
        "AND name NOT LIKE 'sqlite%' ORDER BY type = 'table' DESC"
    ).fetchall()
    copy.execute("BEGIN")
    for kind, _, sql in objects:
        if kind == "table":
            copy.execute(sql)
    for table in (*TABLES_READ_BY_MIGRATE, "sqlite_sequence"):
        if _columns(source, table) and _columns(copy, table):
            _copy_rows(source, copy, table)
    for kind, _, sql in objects:
        if kind != "table":
            copy.execute(sql)
    copy.commit()


def _columns(connection: sqlite3.Connection, table: str) -> int:
    return len(connection.execute(f"PRAGMA table_info({table})").fetchall())


def _copy_rows(source: sqlite3.Connection, copy: sqlite3.Connection, table: str) -> None:
    rows = source.execute(f"SELECT * FROM {table}").fetchall()  # noqa: S608 - our own list
    marks = ", ".join("?" * _columns(source, table))
    copy.execute(f"DELETE FROM {table}")  # noqa: S608
    copy.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)  # noqa: S608


COPIES = SQLiteCopies()


IN_PLACE = InPlaceSupport(
    "SQLite blocks every other writer while one transaction writes, and Django turns "
    "foreign keys off outside transactions to rebuild a table"
)
