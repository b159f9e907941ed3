"""What is known of a table of PostgreSQL, and the forecast of a statement while it is
built."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from migration_route.core.values import Forecast, TableLock
from migration_route.vendors.postgresql.contention import (
    ACCESS_EXCLUSIVE,
    SHARE_ROW,
    blocked_by,
    strongest,
)

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
        """Return this table's foreign key of this name."""
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

    def forget_column(self, column: str | None) -> None:
        """Record that a column was dropped, with its foreign keys and checks."""
        self.columns.pop(column or "", None)
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


class ForecastBuilder:
    """The locks, rewrites and scans of a statement, on tables from before the plan."""

    def __init__(self) -> None:
        self._modes: dict[str, str] = {}
        self._rewrites: dict[str, None] = {}
        self._scans: dict[str, None] = {}
        self.is_understood = True

    def lock(self, table: Table | None, mode: str) -> None:
        """Add a lock on a table, its partitions and its inheriting tables."""
        if table is not None:
            self.lock_names((table.name, *table.heirs), mode)

    def lock_names(self, tables: Iterable[str], mode: str) -> None:
        """Add a lock on tables by name; "" is a table that no session waits for."""
        for table in sorted(filter(None, tables)):
            self._modes[table] = strongest(self._modes.get(table, mode), mode)

    def scan(self, table: Table | None) -> None:
        """Add a full scan of a table."""
        if table is not None:
            self.scan_names((table.name, *table.heirs))

    def scan_names(self, tables: Iterable[str]) -> None:
        self._scans |= dict.fromkeys(sorted(filter(None, tables)))

    def rewrite(self, table: Table | None) -> None:
        """Add a rewrite of a table, with the scan that it needs."""
        if table is not None:
            self.scan(table)
            self._rewrites |= dict.fromkeys(
                sorted(filter(None, (table.name, *table.heirs)))
            )

    def worst(self, table: Table | None) -> None:
        """Add the strongest lock and a rewrite of a table."""
        self.lock(table, ACCESS_EXCLUSIVE)
        self.rewrite(table)

    def refer(self, table: Table | None) -> None:
        """Add the lock that a new foreign key takes on the table that it references."""
        self.lock(table, SHARE_ROW)

    def add(self, other: ForecastBuilder) -> None:
        """Add the forecast of another statement of the same text."""
        for table, mode in other._modes.items():
            self.lock_names((table,), mode)
        self._rewrites |= other._rewrites
        self._scans |= other._scans

    def forecast(self) -> Forecast:
        return Forecast(
            locks=tuple(
                TableLock(table=table, mode=mode, blocks=blocked_by(mode))
                for table, mode in self._modes.items()
            ),
            rewrites=tuple(self._rewrites),
            scans=tuple(self._scans),
            is_understood=self.is_understood,
        )
