"""Tests that SQL is marked, and stays as it is."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration_route.web.sql_html import sql_html

VENDORS = ("postgresql", "mysql", "sqlite", "other")


def text_of(marked: str) -> str:
    """Return what a browser shows."""
    return html.unescape(re.sub(r"</?span[^>]*>", "", marked))


@given(
    st.text(st.sampled_from("ab'\"`$;-/*#<>&\\ \n1EeNn%") | st.characters()),
    st.sampled_from(VENDORS),
)
def test_the_text_stays_as_it_is(sql: str, vendor: str) -> None:
    """Whatever it is, and nothing of it becomes markup."""
    marked = sql_html(sql, vendor)
    assert text_of(marked) == sql
    assert "<" not in re.sub(r'</?span(?: class="mr-sql-[a-z]+")?>', "", marked)


@pytest.mark.parametrize(
    ("sql", "name", "text"),
    [
        ("create table t", "keyword", "create"),
        ('ALTER TABLE "a b"', "name", "&quot;a b&quot;"),
        ("SELECT 'it''s'", "literal", "&#x27;it&#x27;&#x27;s&#x27;"),
        ("SELECT 12", "literal", "12"),
        ("SELECT 1 -- why", "comment", "-- why"),
    ],
)
def test_pieces_have_their_class(sql: str, name: str, text: str) -> None:
    """By the rules of the server."""
    assert f'<span class="mr-sql-{name}">{text}</span>' in sql_html(sql, "postgresql")


def test_a_huge_statement_is_shown_plain() -> None:
    """Marks would make the page many times as large."""
    sql = "SELECT 1, " * 10_000
    assert sql_html(sql, "postgresql") == sql
