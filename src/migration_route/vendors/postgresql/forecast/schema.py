"""The tables of PostgreSQL as a statement finds them: each is queried once, and then
changed in memory by the statements before it. And the forecast of statements about them."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors import fetch_rows
from migration_route.vendors.base_forecast import BaseForecastBuilder
from migration_route.vendors.postgresql.contention import (
    ACCESS_EXCLUSIVE,
    SHARE_ROW,
    blocked_by,
    strongest,
)
from migration_route.vendors.sql_statements import Name, quoted

_NOT_NULL = re.compile(r'CHECK \(\(("(?:[^"]|"")+"|\w+) IS NOT NULL\)\)')


@dataclass(slots=True, kw_only=True)
class Column:
    """A column; `type` as `format_type` writes it."""

    type: str
    is_not_null: bool = False
    is_collated: bool = False  # with another collation than its type


@dataclass(slots=True, kw_only=True)
class Check:
    """A CHECK constraint; `proves` is a column that it prevents from being NULL."""

    columns: frozenset[str] = frozenset()
    is_valid: bool = True
    proves: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """A foreign key; "" stands for a table that the plan created."""

    name: str
    child: str
    parent: str
    columns: frozenset[str] = frozenset()
    parent_columns: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """An index; `is_plain`: on whole columns of all rows, no exclusion."""

    columns: frozenset[str] = frozenset()
    is_plain: bool = True


@dataclass(slots=True, kw_only=True)
class Table:
    """A table as the plan has left it so far; `name` is its name before the plan, "" for a
    table that the plan created."""

    name: str = ""
    is_empty: bool = False  # the plan created it, and put nothing into it
    columns: dict[str, Column] = field(default_factory=dict)
    checks: dict[str, Check] = field(default_factory=dict)
    keys: list[ForeignKey] = field(default_factory=list)  # of this table, and to it
    heirs: tuple[str, ...] = ()  # partitions and inheriting tables
    indexes: dict[str, Index] = field(default_factory=dict)

    def parents(self, *, column: str | None = None) -> set[str]:
        """Return the tables that foreign keys of this table reference, of one column or
        all."""
        return {
            key.parent
            for key in self.keys
            if key.child == self.name and (column is None or column in key.columns)
        }

    def key(self, name: str) -> ForeignKey | None:
        return next((k for k in self.keys if (k.name, k.child) == (name, self.name)), None)

    def add_key(self, parent: Table | None, *, name: str, columns: Iterable[str]) -> None:
        """Record a new foreign key on both tables."""
        if parent is None:
            return
        key = ForeignKey(
            name=name, child=self.name, parent=parent.name, columns=frozenset(columns)
        )
        self.keys.append(key)
        if parent is not self:
            parent.keys.append(key)

    def is_proven(self, column: str) -> bool:
        """Return whether a valid CHECK constraint prevents this column from being NULL."""
        return any(c.is_valid and c.proves == column for c in self.checks.values())

    def forget_column(self, column: str) -> None:
        """Record that a column was dropped, with its foreign keys and checks."""
        self.columns.pop(column, None)
        self.keys = [
            key for key in self.keys if key.child != self.name or column not in key.columns
        ]
        self.checks = {
            label: check
            for label, check in self.checks.items()
            if column not in check.columns
        }

    def rename_column(self, old: str, new: str) -> None:
        def renamed(columns: frozenset[str]) -> frozenset[str]:
            return frozenset(new if column == old else column for column in columns)

        if old in self.columns:
            self.columns[new] = self.columns.pop(old)
        for check in self.checks.values():
            check.columns = renamed(check.columns)
            check.proves = new if check.proves == old else check.proves
        for label, index in self.indexes.items():
            self.indexes[label] = replace(index, columns=renamed(index.columns))
        for position, key in enumerate(self.keys):
            if key.child == self.name:
                self.keys[position] = replace(key, columns=renamed(key.columns))
            if key.parent == self.name:
                others = renamed(key.parent_columns)
                self.keys[position] = replace(self.keys[position], parent_columns=others)

    def children(self, *, column: str | None = None) -> set[str]:
        """Return the tables whose foreign keys reference this table, a column or any."""
        return {
            key.child
            for key in self.keys
            if key.parent == self.name and (column is None or column in key.parent_columns)
        }


def table_of(facts: dict[str, Any]) -> Table:
    """Return a table from the query result of `schema`."""
    values: dict[str, Any] = {key: value or () for key, value in facts.items()}
    return Table(
        name=values["name"],
        columns={
            name: Column(type=kind, is_not_null=not_null, is_collated=collated)
            for name, (kind, not_null, collated) in dict(values["columns"]).items()
        },
        checks={
            name: Check(
                columns=frozenset(columns or ()), is_valid=valid, proves=_proven(text)
            )
            for name, valid, columns, text in values["checks"]
        },
        keys=[
            ForeignKey(
                name=name,
                child=child,
                parent=parent,
                columns=frozenset(columns or ()),
                parent_columns=frozenset(others or ()),
            )
            for name, child, parent, columns, others in values["keys"]
        ],
        heirs=tuple(values["heirs"]),
        indexes={
            name: Index(columns=frozenset(columns or ()), is_plain=plain)
            for name, (plain, columns) in dict(values["indexes"]).items()
        },
    )


def _proven(text: str) -> str | None:
    found = _NOT_NULL.fullmatch(text)
    if not found:
        return None
    name = found[1]
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


class ForecastBuilder(BaseForecastBuilder):
    """The forecast so far: partitions and inheriting tables share what a parent gets."""

    def __init__(self) -> None:
        super().__init__(strongest=strongest, blocked_by=blocked_by)

    def lock(self, table: Table | None, mode: str) -> None:
        self.lock_names(_with_heirs(table), mode)

    def scan(self, table: Table | None) -> None:
        self.scan_names(_with_heirs(table))

    def rewrite(self, table: Table | None) -> None:
        self.rewrite_names(_with_heirs(table))

    def worst(self, table: Table | None) -> None:
        """Add the strongest lock and a rewrite of a table."""
        self.lock(table, ACCESS_EXCLUSIVE)
        self.rewrite(table)

    def refer(self, table: Table | None) -> None:
        """Add the lock that a new foreign key takes on the table that it references."""
        self.lock(table, SHARE_ROW)


def _with_heirs(table: Table | None) -> tuple[str, ...]:
    return () if table is None else (table.name, *table.heirs)


_SHOWN = (
    r"(CASE WHEN pg_table_is_visible(\1.oid) THEN \1.relname::text "
    r"ELSE \1.relnamespace::regnamespace::text || '.' || \1.relname END)"
)
# No query opens a table: a lock on it does not block the reader.
_TABLE = """
WITH RECURSIVE heirs AS (
    SELECT inhrelid AS oid FROM pg_inherits WHERE inhparent = %s
    UNION SELECT i.inhrelid FROM pg_inherits i JOIN heirs h ON i.inhparent = h.oid
)
SELECT json_build_object(
    'name', shown(c),
    'columns', (SELECT json_object_agg(a.attname, json_build_array(
            format_type(a.atttypid, a.atttypmod), a.attnotnull,
            a.attcollation <> t.typcollation))
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'checks', (SELECT json_agg(json_build_array(k.conname, k.convalidated,
            (SELECT json_agg(attname) FROM pg_attribute
             WHERE attrelid = k.conrelid AND attnum = ANY(k.conkey)),
            pg_get_constraintdef(k.oid)))
        FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c'),
    'keys', (SELECT json_agg(json_build_array(k.conname,
            shown(h), shown(p),
            (SELECT json_agg(attname) FROM pg_attribute
             WHERE attrelid = h.oid AND attnum = ANY(k.conkey)),
            (SELECT json_agg(attname) FROM pg_attribute
             WHERE attrelid = p.oid AND attnum = ANY(k.confkey))))
        FROM pg_constraint k JOIN pg_class h ON h.oid = k.conrelid
        JOIN pg_class p ON p.oid = k.confrelid
        WHERE k.contype = 'f' AND c.oid IN (k.conrelid, k.confrelid)),
    'heirs', (SELECT json_agg(shown(d))
        FROM heirs JOIN pg_class d ON d.oid = heirs.oid),
    'indexes', (SELECT json_object_agg(i.relname, json_build_array(
            x.indexprs IS NULL AND x.indpred IS NULL AND NOT x.indisexclusion,
            (SELECT json_agg(attname) FROM pg_attribute
             WHERE attrelid = c.oid AND attnum = ANY(x.indkey))))
        FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid
        WHERE x.indrelid = c.oid))::text
FROM pg_class c WHERE c.oid = %s
"""
_TABLE = re.sub(r"shown\((\w)\)", _SHOWN, _TABLE)
# The name of an index, or of a sequence that numbers rows, stands for its table.
_FIND = """
SELECT coalesce(x.indrelid, d.refobjid, c.oid), c.relkind::text
FROM pg_class c
LEFT JOIN pg_index x ON x.indexrelid = c.oid
LEFT JOIN pg_depend d ON d.objid = c.oid AND c.relkind = 'S' AND d.deptype IN ('a', 'i')
    AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
WHERE c.oid = to_regclass(%s)
"""
_TABLES = frozenset("rpfm")
_OWNED = frozenset("iIS")


class Schema:
    """The tables by name, as the statements of a plan leave them one by one."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self._connection = connection
        self._by_oid: dict[int, Table] = {}
        self._found: dict[Name, tuple[Table, str] | None] = {}
        self._moved: dict[str, Table] = {}  # by the names that the plan set
        self._gone: set[str] = set()
        self._indexes: dict[str, Table] = {}  # that the plan created or renamed
        self._volatile: dict[str, bool] = {}
        self._domains: frozenset[str] | None = None

    def table(self, name: Name | None) -> Table | None:
        found = self._find(name)
        return found[0] if found and found[1] in _TABLES else None

    def is_view(self, name: Name) -> bool:
        found = self._find(name)
        return bool(found and found[1] == "v")

    def owner(self, name: Name | None) -> Table | None:
        """Return the table that an index or a sequence of this name belongs to."""
        if name and name[-1] in self._indexes:
            return self._indexes[name[-1]]
        found = self._find(name)
        return found[0] if found and found[1] in _OWNED else None

    def _find(self, name: Name | None) -> tuple[Table, str] | None:
        if not name or not all(name):
            return None
        name = name[-2:]
        if name[-1] in self._moved:
            return self._moved[name[-1]], "r"
        if name[-1] in self._gone:
            return None
        if name not in self._found:
            self._found[name] = self._looked_up(name)
        return self._found[name]

    def _looked_up(self, name: Name) -> tuple[Table, str] | None:
        rows = fetch_rows(self._connection, _FIND, [quoted(*name)])
        if not rows:
            return None
        [(oid, kind)] = rows
        if oid not in self._by_oid:
            [(found,)] = fetch_rows(self._connection, _TABLE, [oid, oid])
            self._by_oid[oid] = table_of(json.loads(found))
        return self._by_oid[oid], kind

    def create(self, name: Name) -> Table:
        table = Table(is_empty=True)
        self._moved[name[-1]] = table
        return table

    def note_unknown_statements(self) -> None:
        """Record an unknown operation: tables that the plan created may have rows now."""
        for table in self._moved.values():
            table.is_empty = False

    def drop(self, name: Name) -> None:
        self._moved.pop(name[-1], None)
        self._indexes.pop(name[-1], None)
        self._gone.add(name[-1])

    def rename(self, old: Name, new: str) -> None:
        if table := self.table(old):
            self.drop(old)
            self._moved[new] = table

    def add_index(self, name: str, table: Table, index: Index) -> None:
        self._indexes[name] = table
        table.indexes[name] = index

    def are_volatile(self, functions: Collection[str]) -> bool:
        """Return whether one of these may return another value for each row; an unknown
        function may."""
        unknown = [name for name in functions if name not in self._volatile]
        if unknown:
            known = fetch_rows(
                self._connection,
                "SELECT proname::text, bool_or(provolatile = 'v') FROM pg_proc "
                "WHERE proname = ANY(%s) GROUP BY proname",
                [unknown],
            )
            self._volatile |= {**dict.fromkeys(unknown, True), **dict(known)}
        return any(self._volatile[name] for name in functions)

    def are_the_servers(self, functions: Collection[str]) -> bool:
        return not functions or self._ask(
            "SELECT count(*) = %s FROM (SELECT proname FROM pg_proc WHERE proname = ANY(%s)"
            " GROUP BY proname HAVING bool_and(pronamespace = 'pg_catalog'::regnamespace))"
            " AS known",
            [len(set(functions)), list(functions)],
        )

    def is_domain(self, kind: str) -> bool:
        """Return whether a type, by its name, is a domain."""
        if self._domains is None:
            names = fetch_rows(
                self._connection, "SELECT typname::text FROM pg_type WHERE typtype = 'd'"
            )
            self._domains = frozenset(name for (name,) in names)
        return kind.rpartition(".")[2].strip(' "') in self._domains

    def is_same_inside(self, old: str, new: str) -> bool:
        """Return whether both types store their values in the same way."""
        return self._ask(
            "SELECT EXISTS (SELECT FROM pg_cast WHERE castmethod = 'b' "
            "AND format_type(castsource, NULL) = %s "
            "AND format_type(casttarget, NULL) = %s)",
            [old, new],
        )

    def _ask(self, query: str, parameters: list[Any]) -> bool:
        [(answer,)] = fetch_rows(self._connection, query, parameters)
        return bool(answer)
