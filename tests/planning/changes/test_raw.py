"""Tests of the changes that are parsed from the text of a RunSQL."""

from __future__ import annotations

import pytest
from django.db.migrations import RunSQL

from migration_route.planning.changes import raw_sql
from migration_route.planning.changes.types import ChangeKind as Kind


def told(text):
    """Return kind, table and columns of each change."""
    statements = raw_sql.statements_of(RunSQL(text), "postgresql", backwards=False)
    return [
        (found.kind, found.table, found.columns)
        for statement in statements
        for found in raw_sql.changes_of(statement)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("create table a (id int)", [(Kind.TABLE_ADDED, "a", ())]),
        ('CREATE TABLE IF NOT EXISTS "s"."A" (id int)', [(Kind.TABLE_ADDED, "A", ())]),
        (
            "DROP TABLE IF EXISTS a, public.b CASCADE",
            [(Kind.TABLE_DROPPED, "a", ()), (Kind.TABLE_DROPPED, "b", ())],
        ),
        ("alter table a drop column b", [(Kind.COLUMN_DROPPED, "a", ("b",))]),
        ("ALTER TABLE ONLY a DROP IF EXISTS b", [(Kind.COLUMN_DROPPED, "a", ("b",))]),
        ("ALTER TABLE `a` DROP `b`", [(Kind.COLUMN_DROPPED, "a", ("b",))]),
        ("ALTER TABLE a DROP CONSTRAINT b", []),
        ("ALTER TABLE a DROP PRIMARY KEY", []),
        ("ALTER TABLE a ALTER b DROP NOT NULL, ALTER c DROP DEFAULT", []),
        (
            "ALTER TABLE a ADD b numeric(8, 2), DROP COLUMN c",
            [(Kind.COLUMN_ADDED, "a", ("b",)), (Kind.COLUMN_DROPPED, "a", ("c",))],
        ),
        ("ALTER TABLE a RENAME TO b", [(Kind.TABLE_RENAMED, "a", ())]),
        ("ALTER TABLE a RENAME COLUMN b TO c", [(Kind.COLUMN_RENAMED, "a", ("b",))]),
        ("ALTER TABLE a RENAME CONSTRAINT b TO c", []),
        ("ALTER TABLE a ALTER b SET NOT NULL", [(Kind.NULL_FORBIDDEN, "a", ("b",))]),
        ("ALTER TABLE a ALTER COLUMN b TYPE int", [(Kind.COLUMN_RETYPED, "a", ("b",))]),
        (
            "ALTER TABLE a ADD CONSTRAINT x UNIQUE (b, c)",
            [(Kind.UNIQUE_ADDED, "a", ("b", "c"))],
        ),
        ("ALTER TABLE a ADD CONSTRAINT x UNIQUE USING INDEX y", []),
        ("ALTER TABLE a ADD CONSTRAINT x CHECK (b > 1)", [(Kind.CHECK_ADDED, "a", ())]),
        ("ALTER TABLE a ADD CONSTRAINT x CHECK (b > 1) NOT VALID", []),
        (
            "ALTER TABLE a ADD CONSTRAINT x FOREIGN KEY (b) REFERENCES c (id)",
            [(Kind.REFERENCE_ADDED, "a", ("b",))],
        ),
        (
            "CREATE UNIQUE INDEX CONCURRENTLY x ON a (b)",
            [(Kind.UNIQUE_ADDED, "a", ("b",))],
        ),
        ("CREATE INDEX x ON a (b)", []),
        ("delete from only a where b = 'delete from c'", [(Kind.ROWS_DROPPED, "a", ())]),
        ("TRUNCATE a, b", [(Kind.ROWS_DROPPED, "a", ()), (Kind.ROWS_DROPPED, "b", ())]),
        (
            "WITH old AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM old",
            [(Kind.ROWS_DROPPED, "a", ())],
        ),
        ("DO $$ BEGIN DELETE FROM a; END $$", [(Kind.ROWS_DROPPED, "a", ())]),
        (
            "CREATE FUNCTION f() RETURNS trigger AS $$ BEGIN DELETE FROM a; END $$ "
            "LANGUAGE plpgsql",
            [],
        ),
        ("CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b", []),
        ("-- DROP TABLE a\nSELECT 1", []),
        ([("DELETE FROM a WHERE b = %s", ["x"])], [(Kind.ROWS_DROPPED, "a", ())]),
        ("", []),
    ],
)
def test_what_is_told_of_a_text(text, expected):
    assert told(text) == expected


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("ALTER TABLE a ADD b int", False),
        ("ALTER TABLE a ADD b int NOT NULL", True),
        ("ALTER TABLE a ADD b int NOT NULL DEFAULT 1", False),
        ("ALTER TABLE a ADD b bigserial NOT NULL", False),
        ("ALTER TABLE a ADD b int GENERATED ALWAYS AS IDENTITY NOT NULL", False),
    ],
)
def test_which_new_columns_need_a_value(text, needs):
    (found,) = raw_sql.changes_of(text)
    assert found.needs_value is needs


@pytest.mark.parametrize(
    ("text", "writes"),
    [
        ("UPDATE a SET b = 1", True),
        ("WITH x AS (SELECT 1) UPDATE a SET b = 1", True),
        ("INSERT INTO a VALUES (1)", True),
        ("SELECT 1", False),
        ("ALTER TABLE a ADD b int", False),
        ("CREATE INDEX x ON a (b)", False),
    ],
)
def test_which_statements_are_there_for_the_data(text, writes):
    assert raw_sql.writes_rows(text) is writes
