"""Forecasts statements on PostgreSQL by its current catalog."""

from __future__ import annotations

from collections.abc import Collection

from django.db import DatabaseError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.values import Forecast, TableSize
from migration_route.vendors import fetch_rows
from migration_route.vendors.base_forecast import Forecaster
from migration_route.vendors.postgresql.forecast.schema import ForecastBuilder, Schema
from migration_route.vendors.postgresql.forecast.statements import READERS
from migration_route.vendors.sql_lexer import POSTGRESQL, LexemeKind
from migration_route.vendors.sql_statements import (
    Name,
    TokenStream,
    quoted_parts,
    statements,
)

_LONGEST = max(len(words.split()) for words in READERS)
# After DROP or ALTER, these words may drop or change columns of any table.
_REACHES_FAR = frozenset(("CASCADE",))
_WITH_CASCADE = frozenset(
    ("DROP TABLE", "ALTER TABLE", "TRUNCATE", "DROP INDEX", "DROP MATERIALIZED VIEW")
)
_SIZES = """
SELECT n.name, CASE WHEN c.reltuples >= 0 THEN c.reltuples::bigint
                    WHEN s.n_live_tup > 0 THEN s.n_live_tup END, {bytes}
FROM unnest(%s::text[], %s::text[]) AS n(name, quoted)
JOIN pg_class c ON c.oid = to_regclass(n.quoted)
LEFT JOIN pg_stat_all_tables s ON s.relid = c.oid
ORDER BY n.name
"""
_BYTES_NOW = "pg_total_relation_size(c.oid)"
# The size of the table with its indexes and TOAST as of the last VACUUM or ANALYZE: a query
# for the current size would wait for a lock.
_BYTES_ON_RECORD = """
(SELECT sum(p.relpages)::bigint * current_setting('block_size')::bigint FROM pg_class p
 WHERE p.oid IN (c.oid, c.reltoastrelid)
    OR p.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid = c.oid))
"""
_LOCK_TIMEOUT = "100ms"


class PostgreSQLForecaster(Forecaster):
    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._schema = Schema(connection)

    def forecast_statement(self, sql: str) -> Forecast:
        builder = ForecastBuilder()
        for words in statements(sql, POSTGRESQL):
            self._read(builder, words)
        return builder.forecast()

    def note_unknown_statements(self) -> None:
        self._schema.note_unknown_statements()

    def _read(self, builder: ForecastBuilder, words: TokenStream) -> None:
        for count in range(_LONGEST, 0, -1):
            first = " ".join(token.word or "?" for token in words.tokens[:count])
            if len(words.tokens) < count or first not in READERS:
                continue
            cascades = any(token.word in _REACHES_FAR for token in words.tokens)
            if cascades and first.startswith("DROP") and first not in _WITH_CASCADE:
                break
            words.at = count
            own = ForecastBuilder()
            READERS[first](own, self._schema, words)
            builder.add(own)
            if own.is_understood:
                return
            break
        builder.is_understood = False
        self._schema.note_unknown_statements()
        for name in _every_name(words):
            builder.worst(self._schema.table(name) or self._schema.owner(name))

    def sizes(self, tables: Collection[str]) -> tuple[TableSize, ...]:
        """Return table sizes by the server's estimates; bytes are current or, where another
        session has a table locked, those of its last VACUUM."""
        names = sorted(tables)
        if not names:
            return ()
        try:
            with transaction.atomic(using=self._connection.alias):
                with self._connection.cursor() as cursor:
                    cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                return self._sizes(names, _BYTES_NOW)
        except DatabaseError:
            return self._sizes(names, _BYTES_ON_RECORD)

    def _sizes(self, names: list[str], size: str) -> tuple[TableSize, ...]:
        quoted = [quoted_parts(name) for name in names]
        query = _SIZES.format(bytes=size)
        return tuple(
            TableSize(table=table, rows=rows, bytes=None if size is None else int(size))
            for table, rows, size in fetch_rows(self._connection, query, [names, quoted])
        )


def _every_name(words: TokenStream) -> set[Name]:
    """Return every name in a statement, those in the body of a block included."""
    bodies = (
        inner
        for token in words.tokens
        if token.kind is LexemeKind.LITERAL and token.text.startswith("$")
        for inner in statements(token.text.split("$", 2)[2].rpartition("$")[0], POSTGRESQL)
    )
    return {
        name for part in (words, *bodies) for name in TokenStream(part.tokens).all_names()
    }
