"""Reads what all migrations have left behind, and compares two such outcomes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from tests.outcome.catalogs import Schema, schema_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.database import Database

OWN_APP = "migration_route"
_MIGRATIONS = "SELECT app, name FROM django_migrations ORDER BY id"
_CONTENT_TYPES = "SELECT app_label, model FROM django_content_type"
_PERMISSIONS = """
    SELECT app_label, model, codename, auth_permission.name
    FROM auth_permission
    JOIN django_content_type ON django_content_type.id = content_type_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything that migrations leave behind in one database."""

    schema: Schema
    recorded: Counter[tuple[Any, ...]]  # (app, name), with its count
    order: list[tuple[Any, ...]]  # (app, name) as recorded, without those of this package
    content_types: Counter[tuple[Any, ...]]
    permissions: Counter[tuple[Any, ...]]
    rows: dict[str, int]  # by table: shows the effect of data migrations


def read_outcome(database: Database) -> Outcome:
    """Read the outcome over fresh connections."""
    tables = database.tables()

    def read(query: str, table: str) -> list[tuple[Any, ...]]:
        return database.rows(query) if table in tables else []

    recorded = read(_MIGRATIONS, "django_migrations")
    return Outcome(
        schema=schema_of(database),
        recorded=Counter(recorded),
        order=[key for key in recorded if key[0] != OWN_APP],
        content_types=Counter(read(_CONTENT_TYPES, "django_content_type")),
        permissions=Counter(read(_PERMISSIONS, "auth_permission")),
        rows={
            table: database.rows(f"SELECT COUNT(*) FROM {table}")[0][0]
            for table in tables
            # This package's own rows are expected to differ.
            if not table.startswith((f"{OWN_APP}_", "sqlite_"))
        },
    )


def differences(django: Outcome, route: Outcome) -> list[str]:
    """List what only Django, or only this package, has left behind."""
    found = []
    for field in fields(Outcome):
        left, right = getattr(django, field.name), getattr(route, field.name)
        if left == right:
            continue
        ours = set(_things(right))
        theirs = set(_things(left))
        lines = [f"only Django: {field.name} {thing}" for thing in theirs - ours]
        lines += [f"only the route: {field.name} {thing}" for thing in ours - theirs]
        found += sorted(lines) or [f"in another order: {field.name}"]
    return found


def _things(value: Any) -> Iterator[str]:
    if isinstance(value, dict):  # includes Counter
        for key, held in value.items():
            things = held if isinstance(held, list) else [held]
            yield from (f"{key}: {thing}" for thing in things)
    else:
        yield from map(str, value)
