"""Frozen values for the changes that operations make. This module does not import
Django."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique

from migration_route.planning.plan import Plan


@unique
class ChangeKind(StrEnum):
    TABLE_ADDED = "table_added"
    TABLE_DROPPED = "table_dropped"
    TABLE_RENAMED = "table_renamed"
    COLUMN_ADDED = "column_added"
    COLUMN_DROPPED = "column_dropped"
    COLUMN_RENAMED = "column_renamed"
    COLUMN_NARROWED = "column_narrowed"
    COLUMN_RETYPED = "column_retyped"
    NULL_FORBIDDEN = "null_forbidden"
    UNIQUE_ADDED = "unique_added"
    UNIQUE_DROPPED = "unique_dropped"
    CHECK_ADDED = "check_added"
    REFERENCE_ADDED = "reference_added"
    ROWS_DROPPED = "rows_dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaChange:
    kind: ChangeKind
    table: str
    columns: tuple[str, ...] = ()
    name: str = ""  # the new name, or that of a constraint
    detail: str = ""  # for display: how a type changes, which rows a constraint covers
    is_nullable: bool = True  # of a column that is added
    needs_value: bool = False  # NULL is not allowed, and the database has no default
    is_filled: bool = False  # the operation fills rows without a value
    step: str = ""  # "app.name"
    operation: int = 0  # its position in the step
    in_new_table: bool = False  # which the same plan creates
    of_new_column: bool = False  # which the same plan creates, in an existing table

    @property
    def column(self) -> str:
        """Return "table.column", for display."""
        return f"{self.table}.{', '.join(self.columns)}"

    @property
    def is_new_object(self) -> bool:
        """Return whether it affects only what the plan itself creates, so nothing uses it
        yet."""
        return self.in_new_table or self.of_new_column


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonCode:
    name: str
    reaches_rows: bool = True  # it runs queries, as far as its source shows
    forgets: tuple[str, ...] = ()  # what it does on the default database
    imports: tuple[str, ...] = ()  # models that it imports from the current code


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationEffect:
    step: str
    operation: int
    tables: tuple[str, ...] = ()  # existing tables whose schema it changes
    writes_rows: bool = False  # its purpose is to change data
    is_concurrent: bool = False  # it builds or drops an index CONCURRENTLY
    python: PythonCode | None = None
    is_unprotected: bool = False  # Python code outside a transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChanges:
    plan: Plan
    changes: tuple[SchemaChange, ...] = ()
    deeds: tuple[OperationEffect, ...] = ()
    new_tables: frozenset[str] = frozenset()  # created by the plan
    unread: tuple[str, ...] = ()  # steps beyond the time budget
    has_several_databases: bool = False  # the project has more than this one
