"""What would a statement do to MySQL or MariaDB, as its catalog is now?"""

from __future__ import annotations

from collections.abc import Collection

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.forecast import Blocked, Forecast, TableLock, TableSize
from migration_route.vendors.lexer import MYSQL
from migration_route.vendors.mysql.alterations import Cost, alteration
from migration_route.vendors.mysql.schema import Facts, Schema
from migration_route.vendors.words import Reading, statements

_BLOCKS = {
    "NONE": frozenset((Blocked.SCHEMA_CHANGES,)),
    "SHARED": frozenset((Blocked.WRITES, Blocked.SCHEMA_CHANGES)),
    "EXCLUSIVE": frozenset(Blocked),
}
_LOCKS = tuple(_BLOCKS)
_ALGORITHMS = ("", "instant", "inplace", "copy")
_IDLE = frozenset(
    ("SET", "COMMIT", "BEGIN", "START", "ROLLBACK", "SAVEPOINT", "USE", "SHOW")
)
_SIZES = """
SELECT table_name, table_rows, data_length + index_length FROM information_schema.tables
WHERE table_schema = DATABASE() AND table_name IN %s ORDER BY table_name
"""


class MySQLForecaster:
    """Reads statement after statement; each stands on those before it."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._schema = Schema(connection)

    def foretell(self, sql: str) -> Forecast:
        """Tell what a text of statements does. Raises `django.db.DatabaseError`."""
        account = _Account()
        for words in statements(sql, MYSQL):
            self._read(account, words)
        return Forecast(
            locks=tuple(
                TableLock(table=table, mode=mode, blocks=_BLOCKS[mode])
                for table, mode in account.locked.items()
            ),
            rewrites=tuple(account.rewritten),
            scans=tuple(account.scanned),
            algorithm=account.algorithm,
            is_understood=account.is_understood,
        )

    def pass_by(self) -> None:
        """Do nothing: what a forecast says here does not lie with the rows."""

    def _read(self, account: _Account, words: Reading) -> None:
        if words.tokens[0].word in _IDLE:
            return
        for beginning, read in _READERS.items():
            if words.accept(*beginning.split()):
                read(self, account, words)
                return
        account.is_understood = False
        for name in words.all_names():
            worst = Cost(algorithm="copy", lock="EXCLUSIVE")
            account.cost(self._schema.tables.old(name), worst)

    def _create_table(self, account: _Account, words: Reading) -> None:
        tables = self._schema.tables
        words.accept("IF", "NOT", "EXISTS")
        name = words.name()
        if tables.old(name) is None:
            tables.create(name)
        group = words.group()
        for part in group.parts() if group else ():
            # The parent's definition is locked until the child's is there.
            account.lock(tables.old(part.name_behind("REFERENCES")), "EXCLUSIVE")

    def _drop_table(self, account: _Account, words: Reading) -> None:
        tables = self._schema.tables
        words.accept("IF", "EXISTS")
        for name in words.names():
            if table := tables.old(name):
                account.lock(table, "EXCLUSIVE")
                for parent in self._schema.facts(table).parents:
                    account.lock(parent, "EXCLUSIVE")
            tables.drop(name)

    def _rename_table(self, account: _Account, words: Reading) -> None:
        tables = self._schema.tables
        for part in words.parts():
            name = part.name()
            account.cost(tables.old(name), Cost(algorithm="instant", lock="EXCLUSIVE"))
            tables.rename(name, part.name_behind("TO"))

    def _truncate(self, account: _Account, words: Reading) -> None:
        words.accept("TABLE")
        account.lock(self._schema.tables.old(words.name()), "EXCLUSIVE")

    def _alter(self, account: _Account, words: Reading) -> None:
        words.accept("IF", "EXISTS")
        name = words.name()
        table = self._schema.tables.old(name)
        if not table:
            if words.accept("RENAME") and words.accept_any("TO", "AS") is not None:
                self._schema.tables.rename(name, words.name())
            for parent in _referred(words):
                account.lock(self._schema.tables.old(parent), "EXCLUSIVE")
            return
        for part in words.parts():
            if part.accept("RENAME") and not (
                part.sees("COLUMN") or part.sees("INDEX") or part.sees("KEY")
            ):
                part.accept_any("TO", "AS")
                self._schema.tables.rename(name, part.name())
                account.cost(table, Cost(algorithm="instant", lock="EXCLUSIVE"))
                continue
            part.at = 0
            facts = self._schema.facts(table)
            cost = alteration(part, facts, self._schema.server)
            account.cost(table, cost)
            account.is_understood = account.is_understood and cost.is_understood
            for parent in (*_referred(part), *((p,) for p in cost.parents)):
                account.lock(self._schema.tables.old(parent), "EXCLUSIVE")
            self._note(facts, part)

    def _note(self, facts: Facts, part: Reading) -> None:
        """Note what an action has changed: of the columns that it names nothing is known
        any more, so that the worst is foretold of the next one."""
        words = Reading(part.tokens)
        for name in _referred(words):
            label = words.name_behind("CONSTRAINT") or ("",)
            facts.keys[label[-1].lower()] = self._schema.tables.old(name) or ""
        if not words.sees("ALTER"):  # which changes a default
            facts.forget(words.all_names())

    def _index(self, account: _Account, words: Reading) -> None:
        table = self._schema.tables.old(words.name_behind("ON"))
        builds = words.tokens[0].word == "CREATE"
        slow = words.has("FULLTEXT") or words.has("SPATIAL")
        is_plain = not table or self._schema.facts(table).is_innodb
        algorithm = "inplace" if is_plain else "copy"
        lock = "SHARED" if slow or not is_plain else "NONE"
        account.cost(table, Cost(algorithm=algorithm, lock=lock, scans=builds))
        if table:
            self._note(self._schema.facts(table), words)

    def _rows(self, account: _Account, words: Reading) -> None:
        """Rows are locked one by one; the tables' definitions as long as that lasts."""
        reads = words.tokens[0].word not in {"INSERT", "REPLACE"} or words.has("SELECT")
        for name in sorted(words.all_names()):
            table = self._schema.tables.old(name)
            account.lock(table, "NONE")
            if table and reads:
                account.scanned[table] = None

    def sizes(self, tables: Collection[str]) -> tuple[TableSize, ...]:
        """Tell how large tables are, by the server's estimates."""
        if not tables:
            return ()
        with self._connection.cursor() as cursor:
            cursor.execute(_SIZES, [tuple(sorted(tables))])
            return tuple(
                TableSize(
                    table=table,
                    rows=None if rows is None else int(rows),
                    bytes=None if size is None else int(size),
                )
                for table, rows, size in cursor.fetchall()
            )


def _referred(words: Reading) -> list[tuple[str, ...]]:
    name = words.name_behind("REFERENCES")
    return [name] if name else []


class _Account:
    """What has been foretold so far, of tables from before the plan."""

    def __init__(self) -> None:
        self.locked: dict[str, str] = {}
        self.rewritten: dict[str, None] = {}
        self.scanned: dict[str, None] = {}
        self.algorithm = ""
        self.is_understood = True

    def lock(self, table: str | None, mode: str) -> None:
        if table:
            held = self.locked.get(table, mode)
            self.locked[table] = max(held, mode, key=_LOCKS.index)

    def say(self, algorithm: str, table: str | None) -> None:
        if table:
            self.algorithm = max(self.algorithm, algorithm, key=_ALGORITHMS.index)

    def cost(self, table: str | None, cost: Cost) -> None:
        if not table:
            return
        self.lock(table, cost.lock)
        self.say(cost.algorithm, table)
        if cost.rewrites or cost.algorithm == "copy":
            self.rewritten[table] = None
            self.scanned[table] = None
        if cost.scans:
            self.scanned[table] = None


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
