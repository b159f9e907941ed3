"""Forecasts statements on MySQL and MariaDB by the current catalog, with the algorithm and
the lock of each action of ALTER TABLE.

After the manuals: MySQL 8.4, 17.12.1 "Online DDL Operations"; MariaDB, "InnoDB Online DDL
Operations with the INSTANT (INPLACE) Alter Algorithm". In doubt the table is copied and
writes are blocked. Whatever the algorithm, the definition is locked briefly at the start
and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.core.values import Blocked, Forecast, TableSize
from migration_route.vendors import fetch_rows
from migration_route.vendors.base_forecast import BaseForecastBuilder, Forecaster
from migration_route.vendors.mysql.catalog import (
    ColumnInfo,
    SchemaInfo,
    ServerInfo,
    TableInfo,
)
from migration_route.vendors.sql_lexer import MYSQL, LexemeKind
from migration_route.vendors.sql_statements import TokenStream, statements


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterationCost:
    algorithm: str
    lock: str
    rewrites: bool = False  # in place, but every row is rewritten
    scans: bool = False
    is_understood: bool = True
    parents: tuple[str, ...] = ()  # tables that are locked too


INSTANT = AlterationCost(algorithm="instant", lock="NONE")
BUILD = AlterationCost(algorithm="inplace", lock="NONE", scans=True)
IN_PLACE = AlterationCost(algorithm="inplace", lock="NONE")
REBUILD = AlterationCost(algorithm="inplace", lock="NONE", rewrites=True, scans=True)
COPY = AlterationCost(algorithm="copy", lock="SHARED", rewrites=True, scans=True)
SLOW_BUILD = AlterationCost(algorithm="inplace", lock="SHARED", scans=True)
_ADDED = {
    "FOREIGN KEY": COPY,  # in place only while checks are off
    "CHECK": COPY,
    "PRIMARY KEY": REBUILD,
    "FULLTEXT": SLOW_BUILD,
    "SPATIAL": SLOW_BUILD,
    "UNIQUE": BUILD,
    "INDEX": BUILD,
    "KEY": BUILD,
}
_DROPPED = {"PRIMARY KEY": COPY, "INDEX": IN_PLACE, "KEY": IN_PLACE, "CHECK": IN_PLACE}
_KINDS = ("CHECK", "FOREIGN", "UNIQUE", "PRIMARY")
_UNKNOWN = replace(COPY, lock="EXCLUSIVE", is_understood=False)


def alteration_cost(
    action: TokenStream, table: TableInfo, server: ServerInfo
) -> AlterationCost:
    cost = _cost(action, table, server)
    if not table.is_innodb and cost.algorithm != "instant":
        return replace(COPY, is_understood=cost.is_understood, parents=cost.parents)
    return cost


def _cost(action: TokenStream, table: TableInfo, server: ServerInfo) -> AlterationCost:
    for word, cost_of in _ACTIONS.items():
        if action.accept(word):
            return cost_of(action, table, server)
    return _UNKNOWN


def _first_accepted(
    action: TokenStream, costs: Mapping[str, AlterationCost]
) -> AlterationCost | None:
    return next(
        (cost for words, cost in costs.items() if action.accept(*words.split())), None
    )


def _alter(action: TokenStream, table: TableInfo, server: ServerInfo) -> AlterationCost:
    del table, server
    if action.accept("INDEX"):
        return INSTANT
    action.accept("COLUMN")
    action.name()
    is_default = action.sees("SET", "DEFAULT") or action.sees("DROP", "DEFAULT")
    return INSTANT if is_default else _UNKNOWN


def _modify(action: TokenStream, table: TableInfo, server: ServerInfo) -> AlterationCost:
    action.accept("COLUMN")
    return _redefined(action, table, server, action.label())


def _change(action: TokenStream, table: TableInfo, server: ServerInfo) -> AlterationCost:
    action.accept("COLUMN")
    name, new = action.label(), action.label()
    cost = _redefined(action, table, server, name)
    renames = name != new
    return (
        IN_PLACE if renames and cost == INSTANT and not _renames_at_once(server) else cost
    )


def _rename(action: TokenStream, table: TableInfo, server: ServerInfo) -> AlterationCost:
    del table
    if action.accept("COLUMN") and _renames_at_once(server):
        return INSTANT
    return IN_PLACE


def _renames_at_once(server: ServerInfo) -> bool:
    return server.is_mariadb or server.version >= (8, 0, 28)


def _always(
    cost: AlterationCost,
) -> Callable[[TokenStream, TableInfo, ServerInfo], AlterationCost]:
    return lambda *_: cost


def _add(action: TokenStream, table: TableInfo, server: ServerInfo) -> AlterationCost:
    nameless = any(action.sees("CONSTRAINT", word) for word in _KINDS)
    if action.accept("CONSTRAINT") and not nameless:
        action.name()
    if cost := _first_accepted(action, _ADDED):
        return cost
    action.accept("COLUMN")
    action.accept("IF", "NOT", "EXISTS")
    return _add_column(action, table, server)


def _add_column(
    action: TokenStream, table: TableInfo, server: ServerInfo
) -> AlterationCost:
    if action.sees("("):
        return COPY
    words = TokenStream(action.rest)
    if words.has("AUTO_INCREMENT"):
        return replace(REBUILD, lock="SHARED")
    if words.has("CHECK") or words.has("REFERENCES"):
        return COPY
    if words.has("AS") or words.has("GENERATED"):
        if words.has("STORED") or words.has("PERSISTENT"):
            return COPY
        return COPY if words.has("NOT", "NULL") else INSTANT
    if words.skip_to("DEFAULT") and not _is_constant(words):
        return COPY
    words = TokenStream(action.rest)
    if words.has("UNIQUE") or words.has("PRIMARY", "KEY"):
        return REBUILD
    is_odd = table.is_compressed or table.has_fulltext
    moves = words.has("FIRST") or words.has("AFTER")
    is_new = server.is_mariadb or server.version >= (8, 0, 29)
    is_quick = is_new or (server.version >= (8, 0, 12) and not moves)
    return INSTANT if is_quick and not is_odd else REBUILD


def _is_constant(words: TokenStream) -> bool:
    words.accept_any("-", "+")
    first = words.rest[0] if words.rest else None
    return first is not None and (
        first.kind in {LexemeKind.LITERAL, LexemeKind.NUMBER}
        or first.word in {"NULL", "TRUE", "FALSE"}
    )


def _drop(action: TokenStream, table: TableInfo, server: ServerInfo) -> AlterationCost:
    if action.accept("FOREIGN", "KEY"):
        action.accept("IF", "EXISTS")
        parent = table.keys.get(action.label().lower())
        return replace(IN_PLACE, parents=(parent,) if parent else tuple(table.parents))
    if cost := _first_accepted(action, _DROPPED):
        return cost
    if action.accept("CONSTRAINT"):
        return replace(IN_PLACE, parents=tuple(table.parents))
    action.accept("COLUMN")
    action.accept("IF", "EXISTS")
    label = action.label().lower()
    if label not in table.columns or label in table.bound:
        return COPY
    column = table.columns[label]
    if "stored" in column.extra or "persistent" in column.extra:
        return REBUILD
    is_new = server.is_mariadb or server.version >= (8, 0, 29)
    is_odd = table.is_compressed or table.has_fulltext or label in table.indexed
    return INSTANT if is_new and not is_odd else REBUILD


def _redefined(
    action: TokenStream, table: TableInfo, server: ServerInfo, name: str
) -> AlterationCost:
    """Return the cost of MODIFY or CHANGE, which name the column as it shall be: what
    differs costs."""
    column = table.columns.get(name.lower())
    if column is None or column.extra not in {"", "auto_increment"}:
        return COPY
    words = TokenStream(action.rest)
    if any(
        words.has(w) for w in ("AS", "GENERATED", "CHECK", "FIRST", "AFTER", "CHARACTER")
    ):
        return COPY
    if words.has("AUTO_INCREMENT") != (column.extra == "auto_increment"):
        return COPY
    if collation := words.name_after("COLLATE"):
        if collation[-1] != column.collation.lower():
            return COPY
    elif column.collation and column.collation != table_default(table):
        return COPY
    kind = str(words.until("NOT", "NULL", "DEFAULT", "COLLATE", "COMMENT", "UNIQUE",
                           "AUTO_INCREMENT", "PRIMARY"))  # fmt: skip
    cost = _change_of_type(kind, column, server)
    is_nullable = not TokenStream(words.rest).has("NOT", "NULL")
    if cost != COPY and is_nullable != column.is_nullable:
        # To NOT NULL in place only in a strict mode, and not for long texts.
        return REBUILD if is_nullable else COPY
    return cost


def table_default(table: TableInfo) -> str:
    """Return the most frequent collation of a table's columns."""
    found = [column.collation for column in table.columns.values() if column.collation]
    return max(set(found), key=found.count) if found else ""


def _change_of_type(kind: str, column: ColumnInfo, server: ServerInfo) -> AlterationCost:
    bare, was = _bare(kind), _bare(column.type)
    if bare == was:
        return INSTANT
    if not (bare.startswith("varchar(") and was.startswith("varchar(")):
        return COPY
    length, old = int(bare[8:-1]), int(was[8:-1])
    width = column.bytes // old if old else 4
    grows_within = length >= old and (length * width <= 255 or column.bytes > 255)
    if not grows_within:
        return COPY
    return INSTANT if server.is_mariadb else IN_PLACE


def _bare(kind: str) -> str:
    """Return a type as information_schema writes it, without the widths of integers."""
    text = "".join(kind.lower().split()).replace("integer", "int")
    if text.startswith(("int", "bigint", "smallint", "tinyint", "mediumint")):
        name, _, rest = text.partition("(")
        text = name + rest.rpartition(")")[2] if rest else name
    return {"bool": "tinyint", "doubleprecision": "double", "numeric": "decimal"}.get(
        text, text
    )


_ACTIONS: dict[str, Callable[[TokenStream, TableInfo, ServerInfo], AlterationCost]] = {
    "ADD": _add,
    "DROP": _drop,
    "ALTER": _alter,
    "MODIFY": _modify,
    "CHANGE": _change,
    "RENAME": _rename,
    "COMMENT": _always(IN_PLACE),
    "AUTO_INCREMENT": _always(IN_PLACE),
    "FORCE": _always(REBUILD),
    "ENGINE": _always(COPY),
    "CONVERT": _always(COPY),
}


_BLOCKS = {
    "NONE": frozenset((Blocked.SCHEMA_CHANGES,)),
    "SHARED": frozenset((Blocked.WRITES, Blocked.SCHEMA_CHANGES)),
    "EXCLUSIVE": frozenset(Blocked),
}
_LOCKS = tuple(_BLOCKS)
_IDLE = frozenset(
    ("SET", "COMMIT", "BEGIN", "START", "ROLLBACK", "SAVEPOINT", "USE", "SHOW")
)
_SIZES = """
SELECT table_name, table_rows, data_length + index_length FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name IN %s ORDER BY table_name
"""


class MySQLForecaster(Forecaster):
    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._schema = SchemaInfo(connection)

    def forecast_statement(self, sql: str) -> Forecast:
        builder = _ForecastBuilder()
        for words in statements(sql, MYSQL):
            self._read(builder, words)
        return builder.forecast()

    def _read(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        if words.tokens[0].word in _IDLE:
            return
        for first_words, read in _READERS.items():
            if words.accept(*first_words.split()):
                read(self, builder, words)
                return
        builder.is_understood = False
        for name in words.all_names():
            worst = AlterationCost(algorithm="copy", lock="EXCLUSIVE")
            builder.cost(self._schema.tables.old(name), worst)

    def _create_table(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        tables = self._schema.tables
        words.accept("IF", "NOT", "EXISTS")
        name = words.name()
        if tables.old(name) is None:
            tables.create(name)
        group = words.group()
        for part in group.parts() if group else ():
            # The parent's definition is locked until the child's exists.
            builder.lock(tables.old(part.name_after("REFERENCES")), "EXCLUSIVE")

    def _drop_table(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        tables = self._schema.tables
        words.accept("IF", "EXISTS")
        for name in words.names():
            if table := tables.old(name):
                builder.lock(table, "EXCLUSIVE")
                for parent in self._schema.facts(table).parents:
                    builder.lock(parent, "EXCLUSIVE")
            tables.drop(name)

    def _rename_table(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        tables = self._schema.tables
        for part in words.parts():
            name = part.name()
            builder.cost(
                tables.old(name), AlterationCost(algorithm="instant", lock="EXCLUSIVE")
            )
            tables.rename(name, part.name_after("TO"))

    def _truncate(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        words.accept("TABLE")
        builder.lock(self._schema.tables.old(words.name()), "EXCLUSIVE")

    def _alter(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        words.accept("IF", "EXISTS")
        name = words.name()
        table = self._schema.tables.old(name)
        if not table:
            if words.accept("RENAME"):
                words.accept_any("TO", "AS")
                self._schema.tables.rename(name, words.name())
            for parent in _referred(words):
                builder.lock(self._schema.tables.old(parent), "EXCLUSIVE")
            return
        for part in words.parts():
            if part.accept("RENAME") and not (
                part.sees("COLUMN") or part.sees("INDEX") or part.sees("KEY")
            ):
                part.accept_any("TO", "AS")
                self._schema.tables.rename(name, part.name())
                builder.cost(table, AlterationCost(algorithm="instant", lock="EXCLUSIVE"))
                continue
            part.at = 0
            facts = self._schema.facts(table)
            cost = alteration_cost(part, facts, self._schema.server)
            builder.cost(table, cost)
            builder.is_understood = builder.is_understood and cost.is_understood
            for parent in (*_referred(part), *((p,) for p in cost.parents)):
                builder.lock(self._schema.tables.old(parent), "EXCLUSIVE")
            self._note(facts, part)

    def _note(self, facts: TableInfo, part: TokenStream) -> None:
        """Record what an action changed. The columns that it names are unknown afterwards,
        so that the worst is forecast for the next action."""
        words = TokenStream(part.tokens)
        for name in _referred(words):
            label = words.name_after("CONSTRAINT") or ("",)
            facts.keys[label[-1].lower()] = self._schema.tables.old(name) or ""
        if not words.sees("ALTER"):  # which only changes a default
            facts.forget(words.all_names())

    def _index(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        table = self._schema.tables.old(words.name_after("ON"))
        builds = words.tokens[0].word == "CREATE"
        slow = words.has("FULLTEXT") or words.has("SPATIAL")
        is_plain = not table or self._schema.facts(table).is_innodb
        algorithm = "inplace" if is_plain else "copy"
        lock = "SHARED" if slow or not is_plain else "NONE"
        builder.cost(table, AlterationCost(algorithm=algorithm, lock=lock, scans=builds))
        if table:
            self._note(self._schema.facts(table), words)

    def _rows(self, builder: _ForecastBuilder, words: TokenStream) -> None:
        """Forecast a statement about rows: they are locked one by one, and the definitions
        of the tables as long as that lasts."""
        reads = words.tokens[0].word not in {"INSERT", "REPLACE"} or words.has("SELECT")
        for name in sorted(words.all_names()):
            table = self._schema.tables.old(name)
            builder.lock(table, "NONE")
            if reads:
                builder.scan_names((table,))

    def sizes(self, tables: Collection[str]) -> tuple[TableSize, ...]:
        """Return table sizes by the server's estimates."""
        if not tables:
            return ()
        found = fetch_rows(self._connection, _SIZES, [tuple(sorted(tables))])
        return tuple(
            TableSize(
                table=table,
                rows=None if rows is None else int(rows),
                bytes=None if size is None else int(size),
            )
            for table, rows, size in found
        )


def _referred(words: TokenStream) -> list[tuple[str, ...]]:
    name = words.name_after("REFERENCES")
    return [name] if name else []


class _ForecastBuilder(BaseForecastBuilder):
    """The forecast so far, by the names of single tables."""

    def __init__(self) -> None:
        super().__init__(strongest=_stronger, blocked_by=_BLOCKS.__getitem__)

    def lock(self, table: str | None, mode: str) -> None:
        self.lock_names((table,), mode)

    def cost(self, table: str | None, cost: AlterationCost) -> None:
        self.lock(table, cost.lock)
        self.raise_algorithm(cost.algorithm, table)
        if cost.rewrites or cost.algorithm == "copy":
            self.rewrite_names((table,))
        if cost.scans:
            self.scan_names((table,))


def _stronger(one: str, other: str) -> str:
    return max(one, other, key=_LOCKS.index)


_READERS = {
    "ALTER TABLE": MySQLForecaster._alter,
    "CREATE TABLE": MySQLForecaster._create_table,
    "DROP TABLE": MySQLForecaster._drop_table,
    "RENAME TABLE": MySQLForecaster._rename_table,
    "TRUNCATE": MySQLForecaster._truncate,
    **dict.fromkeys(
        (
            "CREATE INDEX",
            "CREATE UNIQUE INDEX",
            "CREATE FULLTEXT INDEX",
            "CREATE SPATIAL INDEX",
            "DROP INDEX",
        ),
        MySQLForecaster._index,
    ),
    **dict.fromkeys(
        ("INSERT", "REPLACE", "UPDATE", "DELETE", "SELECT"), MySQLForecaster._rows
    ),
}
