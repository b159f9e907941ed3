"""Tests that the comparison detects every difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness import databases
from tests.outcome.outcome import differences, read_outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.harness.database import Database

THE_SAME = (
    "CREATE TABLE shelf (id INTEGER PRIMARY KEY, label VARCHAR(20) NOT NULL)",
    "CREATE TABLE django_migrations (id INTEGER PRIMARY KEY, app VARCHAR(20),"
    " name VARCHAR(20))",
    "INSERT INTO django_migrations VALUES (1, 'shelf', '0001'), (2, 'shelf', '0002')",
    "CREATE TABLE django_content_type (id INTEGER PRIMARY KEY, app_label VARCHAR(20),"
    " model VARCHAR(20))",
)
CHANGES = {
    "a table": "CREATE TABLE more (id INTEGER PRIMARY KEY)",
    "a column": "ALTER TABLE shelf ADD COLUMN height INTEGER",
    "an index": "CREATE INDEX by_label ON shelf (label)",
    "a unique index": "CREATE UNIQUE INDEX one_label ON shelf (label)",
    "a view": "CREATE VIEW labels AS SELECT id FROM shelf",
    "a row": "INSERT INTO shelf (id, label) VALUES (1, 'top')",
    "a recorded migration": "INSERT INTO django_migrations VALUES (3, 'a', '0001')",
    "one recorded twice": "INSERT INTO django_migrations VALUES (4, 'shelf', '0001')",
    "another order": "UPDATE django_migrations SET id = 9 WHERE id = 1",
    "a content type": "INSERT INTO django_content_type VALUES (1, 'shelf', 'shelf')",
}
ALTERED = {
    "a type": "ALTER TABLE shelf ALTER COLUMN label TYPE VARCHAR(21)",
    "a default": "ALTER TABLE shelf ALTER COLUMN label SET DEFAULT 'x'",
    "a nullability": "ALTER TABLE shelf ALTER COLUMN label DROP NOT NULL",
    "a check": "ALTER TABLE shelf ADD CONSTRAINT fits CHECK (label <> '')",
    "a comment": "COMMENT ON TABLE shelf IS 'of wood'",
}
ALTERED_IN_MARIADB = {
    "a type": "ALTER TABLE shelf MODIFY label VARCHAR(21) NOT NULL",
    "a default": "ALTER TABLE shelf ALTER COLUMN label SET DEFAULT 'x'",
    "a nullability": "ALTER TABLE shelf MODIFY label VARCHAR(20)",
    "a check": "ALTER TABLE shelf ADD CONSTRAINT fits CHECK (label <> '')",
    "a comment": "ALTER TABLE shelf COMMENT 'of wood'",
}
MORE = {"sqlite": {}, "postgres": ALTERED, "mariadb": ALTERED_IN_MARIADB}


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Database]]:
    """Return a function that creates a database with a few tables; drop them afterwards."""
    made: list[Database] = []

    def database(vendor: str) -> Database:
        try:
            made.append(databases.create(vendor, tmp_path))
        except databases.NotHere as reason:
            if vendor in databases.required():
                pytest.fail(f"required: {reason}")
            pytest.skip(str(reason))
        made[-1].execute(*THE_SAME)
        return made[-1]

    yield database
    for each in made:
        each.drop()


@pytest.mark.parametrize("vendor", databases.VENDORS)
def test_every_single_change_is_seen(make: Callable[[str], Database], vendor: str) -> None:
    """Two databases created alike do not differ; each statement causes a difference."""
    database = make(vendor)
    seen = read_outcome(database)
    assert differences(read_outcome(make(vendor)), seen) == []

    for name, statement in {**CHANGES, **MORE[vendor]}.items():
        before = seen
        database.execute(statement)
        seen = read_outcome(database)
        assert differences(before, seen), name
