"""The migrations of the sweep, and the trace that each of their operations leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.harness.migrations import RUN, column, migration, running

if TYPE_CHECKING:
    from tests.harness.database import Database

ROWS = tuple(f"INSERT INTO shop_item (name) VALUES ('thing {n}')" for n in range(3))
"""The rows of the shop before the run."""

DATA = {
    "shop_item": "SELECT * FROM shop_item ORDER BY id",
    "shop_offer": "SELECT * FROM shop_offer ORDER BY id",
}
"""The queries whose results are compared."""

Trace = Callable[["Database"], bool]
Undo = Callable[["Database"], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The observable effect of one operation."""

    is_in: Trace | None  # None: the catalog shows no trace
    undo: Undo  # undoes the operation by hand; does nothing if it is absent


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One migration of the plan."""

    name: str
    source: str
    works: tuple[Work, ...]
    vendors: frozenset[str] = field(
        default_factory=lambda: frozenset({"sqlite", "postgres", "mariadb"})
    )

    def undo(self, database: Database) -> None:
        """Undo whatever is present of this step."""
        _finish_table(database)
        for work in reversed(self.works):
            work.undo(database)


def steps(vendor: str) -> list[Step]:
    """Return the plan for one kind of database, in order."""
    return [step for step in _STEPS if vendor in step.vendors]


def _finish_table(database: Database) -> None:
    """Clean up after an interrupted table rebuild on SQLite: its copy is beside the table,
    or the only one."""
    tables = database.tables()
    for table in ("shop_item", "shop_offer"):
        if f"new__{table}" not in tables:
            continue
        if table in tables:
            database.execute(f"DROP TABLE new__{table}")
        else:
            database.execute(f"ALTER TABLE new__{table} RENAME TO {table}")


def _table(name: str) -> Work:
    return Work(
        is_in=lambda database: name in database.tables(),
        undo=lambda database: database.execute(f"DROP TABLE IF EXISTS {name}"),
    )


def _column(name: str, table: str = "shop_item") -> Work:
    def is_in(database: Database) -> bool:
        return name in database.columns(table)

    def undo(database: Database) -> None:
        if is_in(database):
            database.execute(f"ALTER TABLE {table} DROP COLUMN {name}")

    return Work(is_in=is_in, undo=undo)


def _index(name: str, table: str = "shop_item") -> Work:
    def undo(database: Database) -> None:
        on = f" ON {table}" if database.vendor == "mariadb" else ""
        database.execute(f"DROP INDEX IF EXISTS {name}{on}")

    return Work(is_in=lambda database: _has_index(database, name), undo=undo)


def _has_index(database: Database, name: str) -> bool:
    queries = {
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'index'",
        "postgres": "SELECT relname FROM pg_class JOIN pg_index ON oid = indexrelid"
        " WHERE indisvalid",
        "mariadb": "SELECT index_name FROM information_schema.statistics"
        " WHERE table_schema = DATABASE()",
    }
    return (name,) in database.rows(queries[database.vendor])


def _rows(where: str) -> Work:
    return Work(
        is_in=None,
        undo=lambda database: database.execute(f"DELETE FROM shop_item WHERE {where}"),
    )


def _values() -> Work:
    """Return the work of filling a column, which disappears with the column itself."""
    return Work(is_in=None, undo=lambda _: None)


_OFFER = """migrations.CreateModel("Offer", [
            ("id", models.BigAutoField(primary_key=True)),
            ("price", models.IntegerField(default=1)),
            ("item", models.ForeignKey("shop.Item", models.CASCADE)),
        ])"""
_COPY = """\
for item in list(Item.objects.using(alias).order_by("id")):
    Item.objects.using(alias).create(name=f"copy of {item.name}")
"""
_COUNT = """\
Item.objects.using(alias).update(amount=models.F("amount") + 1)
"""
_LOOSE = """\
Item.objects.using(alias).create(name="loose")
"""
_INTEGER = "models.IntegerField(default=0)"
_MAYBE = "models.IntegerField(null=True)"

_STEPS = [
    Step(
        # A foreign key is deferred SQL: this step is recorded after its commit.
        name="0002_offer",
        source=migration(_OFFER),
        works=(_table("shop_offer"),),
    ),
    Step(
        name="0003_sku",
        source=column("sku", after="0002_offer"),
        works=(_column("sku"),),
    ),
    Step(
        name="0004_copies",
        source=running(_COPY, after="0003_sku"),
        works=(_rows("name LIKE 'copy of %'"),),
    ),
    Step(
        name="0005_several",
        source=migration(
            f'migrations.AddField("item", "amount", {_INTEGER})',
            RUN,
            'migrations.AddIndex("item", models.Index(fields=["name"], name="by_name"))',
            'migrations.RunSQL("UPDATE shop_item SET amount = amount + 10")',
            after="0004_copies",
            body=_COUNT,
        ),
        works=(_column("amount"), _values(), _index("by_name"), _values()),
    ),
    Step(
        name="0006_loose",
        source=migration(
            f'migrations.AddField("item", "shelf", {_MAYBE})',
            'migrations.AddIndex("item", models.Index(fields=["shelf"], name="by_shelf"))',
            f'migrations.AddField("item", "weight", {_INTEGER})',
            after="0005_several",
            atomic=False,
        ),
        works=(_column("shelf"), _index("by_shelf"), _column("weight")),
    ),
    Step(
        name="0007_loose_rows",
        source=migration(
            f'migrations.AddField("item", "rack", {_MAYBE})',
            RUN,
            after="0006_loose",
            atomic=False,
            body=_LOOSE,
        ),
        works=(_column("rack"), _rows("name = 'loose'")),
    ),
    Step(
        name="0008_concurrently",
        source=migration(
            'AddIndexConcurrently("item", models.Index(fields=["sku"], name="by_sku"))',
            after="0007_loose_rows",
            atomic=False,
        ).replace(
            "\n\n\ndef forwards",
            "\nfrom django.contrib.postgres.operations import AddIndexConcurrently"
            "\n\n\ndef forwards",
        ),
        works=(_index("by_sku"),),
        vendors=frozenset({"postgres"}),
    ),
    Step(
        name="0009_colour",
        source=column("colour", after="0007_loose_rows"),
        works=(_column("colour"),),
        vendors=frozenset({"sqlite", "mariadb"}),
    ),
    Step(
        name="0009_colour",
        source=column("colour", after="0008_concurrently"),
        works=(_column("colour"),),
        vendors=frozenset({"postgres"}),
    ),
]
