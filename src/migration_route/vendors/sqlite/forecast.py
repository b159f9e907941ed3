"""Forecasts statements on an SQLite file.

A writer locks the file, for all of its tables and until the transaction ends (SQLite
documentation, "File Locking And Concurrency" and "Write-Ahead Logging"). Django alters most
tables by a remake: it fills a copy, drops the table, and renames the copy.
"""

from __future__ import annotations

from collections.abc import Collection

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.values import Blocked, Forecast, TableSize
from migration_route.vendors import fetch_rows
from migration_route.vendors.base_forecast import BaseForecastBuilder, Forecaster
from migration_route.vendors.sql_lexer import SQLITE
from migration_route.vendors.sql_statements import TableNames, TokenStream, statements

COPY = "new__"
"""Django's prefix of the name of the copy (`DatabaseSchemaEditor._remake_table`)."""

_COUNTED = 100_000  # rows: counting more would take long
_IDLE = frozenset(("PRAGMA", "BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "END"))
_IN_WAL = ("RESERVED", frozenset((Blocked.WRITES, Blocked.SCHEMA_CHANGES)))
_BY_ROLLBACK = ("EXCLUSIVE", frozenset(Blocked))


class SQLiteForecaster(Forecaster):
    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        rows = fetch_rows(connection, "SELECT type, name, tbl_name FROM sqlite_master")
        [(journal,)] = fetch_rows(connection, "PRAGMA journal_mode")
        self._tables = TableNames(name for kind, name, _ in rows if kind == "table")
        self._indexes = {
            name.lower(): table for kind, name, table in rows if kind == "index"
        }
        # Readers continue while a log is written, and wait while the file itself is.
        self._mode, self._blocks = _IN_WAL if journal == "wal" else _BY_ROLLBACK

    def forecast_statement(self, sql: str) -> Forecast:
        builder = _ForecastBuilder(self._mode, self._blocks)
        for words in statements(sql, SQLITE):
            self._read(builder, words)
        return builder.forecast()

    def _read(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        first = words.tokens[0].word
        if first in _IDLE:
            return
        for first_words, read in _READERS.items():
            if words.accept(*first_words.split()):
                read(self, builder, words)
                return
        builder.is_understood = False
        for table in map(self._tables.old, words.all_names()):
            builder.rewrite(table)

    def _select(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        builder.scan_names(map(self._tables.old, words.all_names()))

    def _create_table(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        del builder
        words.accept("IF", "NOT", "EXISTS")
        name = words.name()
        if self._tables.old(name) is None:
            self._tables.create(name)

    def _create_index(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        words.accept("IF", "NOT", "EXISTS")
        index, table = words.name(), self._tables.old(words.name_after("ON"))
        builder.lock(table)
        builder.scan_names((table,))
        if index:
            self._indexes[index[-1].lower()] = table or ""

    def _drop_index(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        words.accept("IF", "EXISTS")
        if name := words.name():
            builder.lock(self._indexes.pop(name[-1].lower(), None))

    def _drop_table(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        words.accept("IF", "EXISTS")
        name = words.name()
        builder.lock(self._tables.old(name))
        self._tables.drop(name)

    def _change_rows(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        builder.lock(self._tables.old(TokenStream(words.rest).name()))
        builder.scan_names(map(self._tables.old, words.all_names()))

    def _alter(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        name = words.name()
        table = self._tables.old(name)
        builder.lock(table)
        if words.accept("RENAME", "TO"):
            self._tables.rename(name, words.name())
            # The rename of a copy ends a rebuild, which is reported already.
            if name and not name[-1].startswith(COPY):
                builder.raise_algorithm("instant", table)
        elif words.accept("RENAME"):
            builder.raise_algorithm("instant", table)
        elif words.accept("ADD"):
            builder.raise_algorithm("instant", table)
            # "Existing rows are tested" (SQLite, ALTER TABLE, 4).
            if words.has("CHECK") or (words.has("GENERATED") and words.has("NOT", "NULL")):
                builder.scan_names((table,))
        else:  # "rewrites its content to purge the data" (5), or something new
            builder.rewrite(table)

    def _insert(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        """Forecast INSERT; filling a copy is the rebuild of its original."""
        name = words.name()
        target = self._tables.old(name)
        original = name[-1].removeprefix(COPY) if name else ""
        if name and name[-1].startswith(COPY) and target == "":
            table = self._tables.old((original,))
            builder.rewrite(table)
            builder.raise_algorithm("rebuild", table)
            # From here on the copy represents the table.
            self._tables.rename((original,), name)
            self._tables.create((original,))
        else:
            builder.lock(target)
            builder.scan_names(map(self._tables.old, words.all_names()))

    def sizes(self, tables: Collection[str]) -> tuple[TableSize, ...]:
        """Count the rows, up to a limit, and the pages if SQLite can report them."""
        return tuple(
            TableSize(table=table, rows=self._rows(table), bytes=self._bytes(table))
            for table in sorted(tables)
        )

    def _rows(self, table: str) -> int | None:
        quoted = self._connection.ops.quote_name(table)
        [(rows,)] = fetch_rows(
            self._connection,
            f"SELECT count(*) FROM (SELECT 1 FROM {quoted} LIMIT {_COUNTED + 1})",  # noqa: S608 - a name that is in the catalog, quoted
        )
        return None if rows > _COUNTED else int(rows)

    def _bytes(self, table: str) -> int | None:
        try:
            [(size,)] = fetch_rows(
                self._connection,
                "SELECT sum(pgsize) FROM dbstat WHERE aggregate = 1 AND name IN "
                "(SELECT name FROM sqlite_master WHERE tbl_name = %s)",
                [table],
            )
        except DatabaseError:  # SQLite was built without this table
            return None
        return None if size is None else int(size)


class _ForecastBuilder(BaseForecastBuilder):
    """The forecast so far; every lock has the one mode of the file."""

    def __init__(self, mode: str, blocks: frozenset[Blocked]) -> None:
        super().__init__(strongest=max, blocked_by=lambda _: blocks)
        self._mode = mode

    def lock(self, table: str | None) -> None:
        self.lock_names((table,), self._mode)

    def rewrite(self, table: str | None) -> None:
        self.lock(table)
        self.rewrite_names((table,))


_READERS = {
    "SELECT": SQLiteForecaster._select,
    "CREATE TABLE": SQLiteForecaster._create_table,
    "CREATE INDEX": SQLiteForecaster._create_index,
    "CREATE UNIQUE INDEX": SQLiteForecaster._create_index,
    "DROP INDEX": SQLiteForecaster._drop_index,
    "DROP TABLE": SQLiteForecaster._drop_table,
    "ALTER TABLE": SQLiteForecaster._alter,
    "INSERT INTO": SQLiteForecaster._insert,
    "UPDATE": SQLiteForecaster._change_rows,
    "DELETE FROM": SQLiteForecaster._change_rows,
}
