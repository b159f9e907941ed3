"""Tests of splitting a text into names, literals and brackets."""

from __future__ import annotations

from migration_route.vendors.sql_lexer import MYSQL, POSTGRESQL, LexemeKind
from migration_route.vendors.sql_statements import statements


def read(sql: str) -> list[str]:
    """Return the statements, each as one text."""
    return [str(words) for words in statements(sql, POSTGRESQL)]


def test_a_text_is_parted_where_a_statement_ends():
    """Not in literals, names, comments or bodies; a comment alone is no statement."""
    sql = "-- a;\nSELECT ';' ; /* b; */ SELECT \"c;\" ; DO $$ BEGIN d; END $$; -- e"
    assert read(sql) == ["SELECT ';'", 'SELECT "c;"', "DO $$ BEGIN d; END $$"]


def test_a_backslash_ends_nothing_but_in_a_literal_that_says_so():
    """`standard_conforming_strings` is on since PostgreSQL 9.1."""
    first, second = statements(r"SELECT '\'; SELECT E'\'; x'", POSTGRESQL)
    assert [token.kind for token in first.tokens] == [LexemeKind.WORD, LexemeKind.LITERAL]
    assert len(second.tokens) == 2


def test_names_come_as_the_database_keeps_them():
    """Quoted ones verbatim, others in lowercase."""
    (words,) = statements('Public."Shop ""Item"""', POSTGRESQL)
    assert words.name() == ("public", 'Shop "Item"')
    (words,) = statements("`odd``one`", MYSQL)
    assert words.name() == ("odd`one",)


def test_parts_are_those_outside_of_brackets():
    """A type with two arguments is one part."""
    (words,) = statements("ADD a numeric(8, 2), ADD CHECK (a IN (1, 2))", POSTGRESQL)
    assert [str(part) for part in words.parts()] == [
        "ADD a numeric ( 8 , 2 )",
        "ADD CHECK ( a IN ( 1 , 2 ) )",
    ]


def test_a_bracket_that_never_closes_ends_with_the_text():
    """Reading any text terminates."""
    (words,) = statements("x ( y , ( z", POSTGRESQL)
    words.name()
    group = words.group()
    assert group is not None
    assert str(group) == "y , ( z"
    assert words.is_done
