"""Tests that error texts, as real databases raise them, contain no values of rows."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection, transaction

from migration_route.core.redaction import (
    LONGEST_MESSAGE,
    LONGEST_TRACEBACK,
    message_of,
    redact,
    sqlstate_of,
    traceback_of,
    without_values,
)
from tests.factories import vendor

SECRET = "swordfish"


@pytest.fixture(autouse=True)
def _table(database):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS told")
        cursor.execute(
            "CREATE TABLE told (id integer PRIMARY KEY, word varchar(40) NOT NULL UNIQUE, "
            "size integer, CONSTRAINT told_size CHECK (size < 10))"
        )
        cursor.execute("INSERT INTO told VALUES (1, %s, 1)", [SECRET])
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE told")


def raised(sql: str, *params: str | int) -> DatabaseError:
    """Return the error that a statement raises."""
    with (
        pytest.raises(DatabaseError) as caught,
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(sql, params or None)
    return caught.value


STATEMENTS = {
    "unique": (f"INSERT INTO told VALUES (2, '{SECRET}', 1)", "23505", "1062"),
    "check": (f"INSERT INTO told VALUES (2, 'a {SECRET}', 99)", "23514", "4025"),
    "not null": (f"INSERT INTO told VALUES (NULL, '{SECRET}x', NULL)", "23502", "1048"),
    "type": (
        f"INSERT INTO told VALUES (2, 'b', CAST('{SECRET}' AS integer) + 1)",
        "22P02",
        None,
    ),
    "data": (f"INSERT INTO told VALUES (2, 'c', '{SECRET}')", "22P02", "1366"),
    "syntax": (f"INSERT INTO told VALUES (2 '{SECRET}')", "42601", "1064"),
    "unterminated": (f"INSERT INTO told VALUES (2, '{SECRET})", "42601", "1064"),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_value_of_a_row_is_in_the_message(name):
    """Neither the value nor the row is in the message, which still says what is wrong."""
    sql, postgres, mysql = STATEMENTS[name]
    if vendor() == "sqlite" and name in {"not null", "type", "data"}:
        pytest.skip("SQLite takes this")
    if vendor() == "mysql" and mysql is None:
        pytest.skip("MariaDB takes this, with a warning")
    if vendor() == "mysql" and name == "not null":
        sql = f"INSERT INTO told VALUES (2, NULL, 1) -- {SECRET}"
    error = raised(sql)
    message = message_of(error)
    assert SECRET not in message
    assert message != type(error).__name__
    if vendor() == "postgresql":
        assert sqlstate_of(error) == postgres
        assert SECRET in str(error) or name == "not null"
    # The value is also removed where an exception of the project wraps the error.
    wrapped = RuntimeError(f"the import failed: {error}")
    wrapped.__cause__ = error
    assert SECRET not in message_of(wrapped)
    assert "the import failed: " in message_of(wrapped)
    assert SECRET not in traceback_of(wrapped, with_detail=False)
    if SECRET in redact(str(error)):
        assert SECRET in traceback_of(wrapped, with_detail=True)


def test_names_stay_in_the_message():
    """A missing table or column, and the violated constraint, are named."""
    assert "surely_not_there" in message_of(raised("SELECT * FROM surely_not_there"))
    assert "surely_no_column" in message_of(raised("SELECT surely_no_column FROM told"))
    unique = message_of(raised(f"INSERT INTO told VALUES (2, '{SECRET}', 1)"))
    assert "word" in unique
    check = message_of(raised("INSERT INTO told VALUES (3, 'x', 99)"))
    assert "told_size" in check


@pytest.mark.skipif("vendor() != 'postgresql'")
def test_what_a_function_of_the_database_says_in_its_detail_is_left_out():
    """The message of RAISE is kept; its DETAIL and CONTEXT are removed, and so is the key
    of an index."""
    error = raised(
        "DO $$ BEGIN RAISE EXCEPTION 'no room' USING DETAIL = 'hash swordfish'; END $$"
    )
    assert message_of(error) == "no room"
    assert SECRET in traceback_of(error, with_detail=True)
    assert SECRET not in traceback_of(error, with_detail=False)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE told DROP CONSTRAINT told_word_key")
        cursor.execute("INSERT INTO told VALUES (2, %s, 1)", [SECRET])
    error = raised("CREATE UNIQUE INDEX told_again ON told (word)")
    assert SECRET in str(error)
    assert message_of(error) == 'could not create unique index "told_again"'
    error = raised("ALTER TABLE told ALTER COLUMN word TYPE integer USING word::integer")
    assert message_of(error) == 'invalid input syntax for type integer: "…"'


@pytest.mark.parametrize(
    "text",
    [
        "Duplicate entry 'it''s swordfish' for key 'users.email'",
        "Incorrect integer value: 'a 'swordfish' b' for column `x`.`t`.`size` at row 1",
        "Truncated incorrect DOUBLE value: 'swordfish'",
        "Foreign key constraint for table 't', record 'swordfish' would lead to a "
        "duplicate",
        "DETAIL:  Failing row contains (1, ada, swordfish, (x), null).",
        "DETAIL:  Key (email, lower(name))=(ada@x, swordfish) already exists.",
        'DETAIL:  Key (a)=(x) y) is swordfish) is not present in table "t".',
        "Key (at)=([1,swordfish)) conflicts with existing key (at)=([2,swordfish)).",
        "The row in table 't' with primary key 'swordfish' has an invalid foreign key: t.x "
        "contains a value 'swordfish' that does not have a corresponding value in u.id.",
        "Violation of UNIQUE KEY constraint. The duplicate key value is (swordfish).",
    ],
)
def test_values_are_recognised_by_the_words_around_them(text):
    """This also works where only the text is available, as in the message of another
    exception."""
    found = message_of(ValueError(text))
    assert SECRET not in found
    assert "…" in found


@pytest.mark.parametrize(
    "text",
    [
        "Table 'shop.item' doesn't exist",
        "The key (see below) is in the lock",
        "Applying shop.0002_price... OK",
        'column "price" of relation "item" does not exist',
    ],
)
def test_other_texts_are_untouched(text):
    """Quoted names are not values."""
    assert without_values(text) == text
    assert message_of(ValueError(text)) == text


def test_texts_are_bounded_and_can_be_stored():
    """However long the text is, and whatever characters a database cannot store."""
    error = ValueError("\0\udc80" + "x" * 1_000_000)
    assert len(message_of(error)) < LONGEST_MESSAGE + 100
    assert "\0" not in message_of(error)
    message_of(error).encode()
    try:
        raise error
    except ValueError:
        text = traceback_of(error, with_detail=True)
    assert len(text) < LONGEST_TRACEBACK + 200
    assert "test_texts_are_bounded" in text
    assert message_of(ValueError()) == "ValueError"
    loop = ValueError("round")
    loop.__cause__ = other = ValueError("and round")
    other.__cause__ = loop
    assert message_of(loop) == "round"
