"""Tests that literals, names and comments end where the server ends them, in each of its
modes."""

from __future__ import annotations

import sqlite3
import time

import psycopg
import pymysql
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from migration_route.vendors.mysql.copies import COPIES as MYSQL_COPIES
from migration_route.vendors.postgresql.copies import COPIES as POSTGRESQL_COPIES
from migration_route.vendors.sql_lexer import (
    MYSQL,
    OLD_POSTGRESQL,
    POSTGRESQL,
    SQLITE,
    Dialect,
    LexemeKind,
    TooManyReadings,
    lexemes,
    readings,
)
from migration_route.vendors.sql_statements import code_of, parts_of
from migration_route.vendors.sqlite.copies import COPIES as SQLITE_COPIES
from tests.harness import databases

FEW = settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
COMMON = [
    "'",
    "'",
    '"',
    "\\",
    "''",
    ";",
    " ",
    "\n",
    "\r",
    "--",
    "-- ",
    "/*",
    "*/",
    "a",
    "1",
]


def texts(*more: str, canary: str) -> st.SearchStrategy[str]:
    """Generate texts of opening and closing marks, with the canary among them."""
    pieces = st.sampled_from([*COMMON, *more, f";{canary};", f";{canary};", canary])
    found = st.lists(pieces, min_size=1, max_size=14)
    return found.map(lambda chosen: "SELECT " + "".join(chosen))


def sees(sql: str, dialect: Dialect, start: str) -> bool:
    """Return whether a reading of the text has a statement that starts like this."""
    return any(
        part.code.lower().startswith(start)
        for reading in readings(sql, dialect)
        for part in parts_of(reading, dialect)
    )


@pytest.mark.parametrize("dialect", [POSTGRESQL, OLD_POSTGRESQL, MYSQL, SQLITE], ids=repr)
@given(text=st.text(alphabet="'\"`$\\;-/*!#[]eEM 1a\n\r\x0b\xa0é"))
def test_nothing_is_lost(dialect, text):
    """The tokens of a text add up to the text."""
    assert "".join(piece.text for piece in lexemes(text, dialect)) == text


@pytest.mark.parametrize(
    ("copies", "sql"),
    [
        (POSTGRESQL_COPIES, r"INSERT INTO p VALUES ('C:\'); DROP ROLE web; --')"),
        (POSTGRESQL_COPIES, "SELECT 1 -- note\r; DROP ROLE web"),
        (POSTGRESQL_COPIES, "SELECT 1; DO $$ BEGIN CREATE ROLE web; END $$"),
        (POSTGRESQL_COPIES, "/* why */ DO $$ BEGIN CREATE ROLE web; END $$"),
        (POSTGRESQL_COPIES, "DO $$ BEGIN CREATE/**/ROLE web; END $$"),
        (POSTGRESQL_COPIES, "DO 'BEGIN CREATE ROLE web; END'"),
        (POSTGRESQL_COPIES, "SELECT E'a'\n'\\' ' ; DROP ROLE web; --'"),
        (POSTGRESQL_COPIES, "/* /* */ ' */ DROP ROLE web; --'"),
        (POSTGRESQL_COPIES, "SELECT $a$ $b$ ' $a$; DROP ROLE web; --'"),
        (POSTGRESQL_COPIES, "SELECT 1 AS \"it's\"; DROP ROLE web; --'"),
        (MYSQL_COPIES, "SELECT 1 # it's\n; DROP USER web; -- '"),
        (MYSQL_COPIES, "SELECT 1 --2; DROP USER web"),
        (MYSQL_COPIES, "/*! DROP USER web */"),
        (MYSQL_COPIES, "/*!50000DROP USER web */"),
        (MYSQL_COPIES, "/*M!100000 DROP USER web */"),
        (MYSQL_COPIES, "SELECT 1 /*!99999 ' */ ; DROP USER web; /*!99999 ' */"),
        (MYSQL_COPIES, "SELECT \"it's\"; DROP USER web; -- '"),
        (MYSQL_COPIES, "SELECT `it's`; DROP USER web; -- '"),
        (
            MYSQL_COPIES,
            r"SET sql_mode = 'NO_BACKSLASH_ESCAPES'; SELECT '\'; DROP USER a;",
        ),
        (MYSQL_COPIES, "DELETE FROM item WHERE id IN (SELECT id FROM other, home.item)"),
        (MYSQL_COPIES, "UPDATE/**/home.item SET name = ''"),
        (MYSQL_COPIES, "REPLACE home.item VALUES (1)"),
        (MYSQL_COPIES, "SET @a = 1, GLOBAL max_connections = 5"),
        (
            MYSQL_COPIES,
            "CREATE DEFINER='a'@'b' EVENT e ON SCHEDULE EVERY 1 DAY DO c",
        ),
        (SQLITE_COPIES, "SELECT [it's]; ATTACH 'x' AS y; --'"),
        (SQLITE_COPIES, r"SELECT '\'; ATTACH 'x' AS y"),
        (SQLITE_COPIES, "SELECT /* /* */ 1; ATTACH 'x' AS y"),
    ],
)
def test_no_literal_hides_what_reaches_beyond_a_copy(copies, sql):
    """A quote that the server reads differently would."""
    assert copies.leaves(sql, "home")


@pytest.mark.parametrize(
    ("copies", "sql"),
    [
        (POSTGRESQL_COPIES, r"INSERT INTO p VALUES (E'C:\'; DROP ROLE web; --')"),
        (POSTGRESQL_COPIES, "SELECT $q$; DROP ROLE web; $q$"),
        (POSTGRESQL_COPIES, "SELECT 'a' -- b\n'; DROP ROLE web'"),
        (POSTGRESQL_COPIES, "/* /* */ ; DROP ROLE web; */ SELECT 1"),
        (MYSQL_COPIES, r"SELECT '\'; DROP USER web; -- '"),
        (MYSQL_COPIES, 'SELECT "; DROP USER web"'),
        (MYSQL_COPIES, "SELECT 5--3"),
        (SQLITE_COPIES, "SELECT '; ATTACH ''x'' AS y'"),
    ],
)
def test_what_stands_in_a_literal_is_no_statement(copies, sql):
    """An ordinary migration is not affected."""
    assert copies.leaves(sql, "home") == ""


def test_a_text_with_too_many_readings_is_refused():
    """Each comment that only some servers execute triples them."""
    sql = "SELECT 1 " + "/*!99999 ' */ " * 9 + "; DROP USER web"
    with pytest.raises(TooManyReadings):
        list(readings(sql, MYSQL))
    assert "comments" in MYSQL_COPIES.leaves(sql, "home")


def test_a_long_text_is_lexed_in_linear_time():
    """Twice the text takes no more than about twice the time."""

    def took(count: int) -> float:
        sql = "INSERT INTO a VALUES (1, 'it''s', \"b\"); -- c\n" * count
        start = time.process_time()
        assert len(code_of(sql, POSTGRESQL)) == count
        return time.process_time() - start

    took(100)
    assert took(16_000) < 10 * took(4_000) + 0.1


@pytest.fixture(scope="module")
def postgres():
    """A PostgreSQL session."""
    try:
        address = databases.postgres()
    except databases.NotHere as reason:
        pytest.skip(str(reason))
    with psycopg.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        dbname="postgres",
        autocommit=True,
    ) as session:
        yield session


@pytest.mark.parametrize("dialect", [POSTGRESQL, OLD_POSTGRESQL], ids=["on", "off"])
@FEW
@example(text=r"SELECT 'C:\';SET canary.seen = 1;--'")
@example(text="SELECT E'a'\n'\\' ';SET canary.seen = 1;--'")
@given(text=texts("E'", "e'", "$$", "$a$", "U&'", "b'", "n'", canary="SET canary.seen = 1"))
def test_postgres_agrees(postgres, dialect, text):
    """For accepted texts, the server executes exactly the statements that are found."""
    on = "off" if dialect.backslashes else "on"
    postgres.execute(f"SET standard_conforming_strings = {on}")
    postgres.execute("SET canary.seen = ''")
    try:
        postgres.execute(text)
    except psycopg.Error:
        return  # a text is parsed as a whole before anything is executed
    (seen,) = postgres.execute("SELECT current_setting('canary.seen', true)").fetchone()
    assert (seen != "") == sees(text, dialect, "set canary.seen")


@pytest.fixture(scope="module")
def mariadb():
    """A MariaDB session that accepts several statements at once."""
    try:
        address = databases.mariadb()
    except databases.NotHere as reason:
        pytest.skip(str(reason))
    session = pymysql.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        client_flag=pymysql.constants.CLIENT.MULTI_STATEMENTS,
    )
    yield session
    session.close()


@pytest.mark.parametrize("backslashes", [True, False])
@pytest.mark.parametrize("ansi_quotes", [True, False])
@FEW
@example(text="SELECT 1 /*!99999 ' */ ;SET @seen = 1; /*!99999 ' */")
@example(text="SELECT 1 /*!99999 /* */ ' */ ;SET @seen = 1; -- '")
@given(text=texts("#", "`", "/*!", "/*!99999 ", "/*M!", canary="SET @seen = 1"))
def test_mariadb_executes_nothing_that_is_not_seen(mariadb, backslashes, ansi_quotes, text):
    """Even where a comment is code for some of its versions."""
    modes = ["ANSI_QUOTES"] * ansi_quotes + ["NO_BACKSLASH_ESCAPES"] * (not backslashes)
    dialect = Dialect(vendor="mysql", backslashes=backslashes, ansi_quotes=ansi_quotes)
    with mariadb.cursor() as cursor:
        cursor.execute(f"SET sql_mode = '{','.join(modes)}', @seen = 0")
        is_accepted = True
        try:
            cursor.execute(text)
            while cursor.nextset():
                pass
        except pymysql.MySQLError:
            is_accepted = False
        cursor.execute("SELECT @seen")
        is_executed = cursor.fetchone()[0] != 0
    try:
        is_seen = sees(text, dialect, "set @seen")
    except TooManyReadings:
        return
    assert is_seen or not is_executed
    if is_accepted and "!" not in text:
        assert is_seen == is_executed


@FEW
@given(text=texts("[", "]", "`", "x'", canary="PRAGMA user_version=7"))
def test_sqlite_executes_nothing_that_is_not_seen(text):
    """It accepts one statement at a time."""
    session = sqlite3.connect(":memory:")
    is_accepted = True
    try:
        session.executescript(text)
    except (sqlite3.Error, sqlite3.Warning):
        is_accepted = False
    is_executed = session.execute("PRAGMA user_version").fetchone()[0] != 0
    session.close()
    is_seen = sees(text, SQLITE, "pragma user_version")
    assert is_seen or not is_executed
    if is_accepted:
        assert is_seen == is_executed


def test_kinds_are_told_apart():
    """By the rules of each database."""
    kinds = [piece.kind for piece in lexemes('"a" `b`', MYSQL)]
    assert kinds == [LexemeKind.LITERAL, LexemeKind.SPACE, LexemeKind.QUOTED]
    kinds = [piece.kind for piece in lexemes('"a" [b c]', SQLITE)]
    assert kinds == [LexemeKind.QUOTED, LexemeKind.SPACE, LexemeKind.QUOTED]
