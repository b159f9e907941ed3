"""Reads the schema of a database from its catalog, as comparable text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.outcome.catalogs import mariadb, postgres, sqlite

if TYPE_CHECKING:
    from tests.harness.database import Database

Schema = dict[str, list[tuple[object, ...]]]

_QUERIES = {
    "sqlite": sqlite.QUERIES,
    "postgres": postgres.QUERIES,
    "mariadb": mariadb.QUERIES,
}


def schema_of(database: Database) -> Schema:
    """Read everything that DDL can create, by kind, in a fixed order."""
    return {
        kind: sorted(map(_normal, database.rows(query)), key=repr)
        for kind, query in _QUERIES[database.vendor].items()
    }


def _normal(row: tuple[object, ...]) -> tuple[object, ...]:
    """Normalize white space."""
    return tuple(
        " ".join(value.split()) if isinstance(value, str) else value for value in row
    )
