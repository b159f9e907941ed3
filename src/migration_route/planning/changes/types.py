"""What does an operation change? Frozen values; no Django here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, unique

from migration_route.planning.plan import Plan


@unique
class ChangeKind(StrEnum):
    """The ways in which the content of a database becomes another."""

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
    """One thing that an operation does to a table."""

    kind: ChangeKind
    table: str
    columns: tuple[str, ...] = ()
    name: str = ""  # the new one of what is renamed; that of a constraint
    detail: str = ""  # in words: how a type changes, for which rows a constraint is
    is_nullable: bool = True  # of a column that is added
    needs_value: bool = False  # NULL is not allowed, and the database has no default
    is_filled: bool = False  # rows without a value are given one by the operation
    step: str = ""  # "app.name"
    operation: int = 0  # its place in the step
    in_new_table: bool = False  # which the same plan makes
    of_new_column: bool = False  # which the same plan makes, in a table that is there

    @property
    def column(self) -> str:
        """Return "table.column", for a reader."""
        return f"{self.table}.{', '.join(self.columns)}"

    @property
    def is_news(self) -> bool:
        """Tell whether it is about what nobody has used yet."""
        return self.in_new_table or self.of_new_column


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonCode:
    """What stands in a function that a migration runs."""

    name: str
    reaches_rows: bool = True  # it queries, as far as its text tells
    forgets: tuple[str, ...] = ()  # what it does on whichever database is the default one
    imports: tuple[str, ...] = ()  # models that it takes as they are in the code now


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What kind of work one operation is."""

    step: str
    operation: int
    tables: tuple[str, ...] = ()  # whose schema it changes, and which are there before
    writes_rows: bool = False  # it is there for the data
    is_concurrent: bool = False  # it makes or drops an index CONCURRENTLY
    python: PythonCode | None = None
    is_unprotected: bool = False  # Python that no transaction stands around


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanChanges:
    """A plan, and what was read in the operations of its steps."""

    plan: Plan
    changes: tuple[SchemaChange, ...] = ()
    deeds: tuple[Deed, ...] = ()
    new_tables: frozenset[str] = frozenset()  # those that the plan makes
    unread: tuple[str, ...] = ()  # steps that there was no time for
    has_several_databases: bool = False  # the project has more than this one
