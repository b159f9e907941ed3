"""Tests of statements that would leave the transaction of a rehearsal in place, and of the
server's own protection."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.db.utils import IntegrityError, InternalError, NotSupportedError

from migration_route.conf.databases import private_connection
from migration_route.core.errors import CannotRehearse
from migration_route.vendors import in_place_of
from migration_route.vendors.base_rehearsal import InPlaceFailure
from migration_route.vendors.mysql.copies import IN_PLACE as MYSQL
from migration_route.vendors.postgresql.in_place import IN_PLACE as POSTGRESQL
from migration_route.vendors.postgresql.in_place import reason_to_reject, statements_of
from migration_route.vendors.sqlite.copies import IN_PLACE as SQLITE


@pytest.mark.parametrize(
    ("sql", "statements"),
    [
        ("", []),
        (" ; ;", []),
        ("SELECT 1;\n Select  2", ["select 1", "select 2"]),
        ("SELECT ';'; SELECT 2", ["select", "select 2"]),
        ("SELECT 'it''s; x'", ["select"]),
        # A backslash is an ordinary character in a plain literal, but not in an escaped
        # one.
        (r"SELECT 'C:\'; COMMIT; SELECT '1'", ["select", "commit", "select"]),
        (r"SELECT E'it\'s; COMMIT;', 1", ["select , 1"]),
        (r"SELECT e'\\'; COMMIT", ["select", "commit"]),
        ("SELECT type'a;b'", ["select type"]),
        ('ALTER TABLE "a;b" ADD x int', ["alter table add x int"]),
        ("-- COMMIT;\nSELECT 1 -- x", ["select 1"]),
        ("/* ; /* COMMIT; */ ; */ SELECT 1", ["select 1"]),
        ("/* never closed ; COMMIT", []),
        ("DO $$ BEGIN COMMIT; END $$; SELECT 1", ["do", "select 1"]),
        ("DO $a$ x; $$; COMMIT; $$ $a$; END", ["do", "end"]),
        ("SELECT a$b$c; COMMIT", ["select a$b$c", "commit"]),
        ("SELECT $1; COMMIT", ["select $1", "commit"]),
        ("SELECT 'open; COMMIT", ["select"]),
        (
            "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END;"
            " SELECT 2; END; COMMIT",
            [
                "create function f() returns int begin atomic select case when true then 1"
                " end select 2 end",
                "commit",
            ],
        ),
    ],
)
def test_a_text_is_read_as_the_server_reads_it(sql, statements):
    """Literals, names, comments and bodies neither hide nor contain a statement."""
    assert statements_of(sql) == statements


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("COMMIT", "COMMIT"),
        ("commit work", "COMMIT WORK"),
        ("COMMIT AND CHAIN", "COMMIT"),
        ("END", "END"),
        ("Abort;", "ABORT"),
        ("ROLLBACK", "ROLLBACK"),
        ("ROLLBACK WORK", "ROLLBACK"),
        ("ROLLBACK AND CHAIN", "ROLLBACK AND"),
        ("ROLLBACK PREPARED 'x'", "ROLLBACK"),
        ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"),
        ("-- hello\n/* there */ COMMIT", "COMMIT"),
        (r"INSERT INTO t VALUES ('C:\'); COMMIT", "COMMIT"),
        ("BEGIN; CREATE TABLE t (id int); COMMIT;", "COMMIT"),
        ("START TRANSACTION READ WRITE", "modes"),
        ("SET TRANSACTION READ  WRITE", "modes"),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE", "modes"),
        ("SET default_transaction_read_only = off", "may write"),
        ("SELECT set_config('transaction_read_only', 'off', false)", "may write"),
        ("DISCARD ALL", "settings"),
        ("RESET ALL", "settings"),
        ("SELECT setval('item_id_seq', 1)", "setval"),
        ("SELECT pg_catalog.SETVAL ('item_id_seq', 1)", "setval"),
        ("SET lock_timeout = '2s'; ALTER TABLE t ADD x int", "time limit"),
        ("ALTER TABLE t ADD x int; RESET statement_timeout", "time limit"),
    ],
)
def test_what_would_leave_is_told(sql, word):
    """With the keyword that does it."""
    assert word in reason_to_reject(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE item ADD COLUMN ended int",
        "SAVEPOINT s",
        'ROLLBACK TO SAVEPOINT "s"',
        "ROLLBACK TO s",
        "ROLLBACK WORK TO SAVEPOINT s",
        "ROLLBACK TRANSACTION TO s",
        "RELEASE SAVEPOINT s",
        "UPDATE item SET name = 'x; COMMIT; y'",
        'UPDATE "commit" SET "end" = 1',
        "SELECT CASE WHEN true THEN 1 END",
        "COMMENT ON TABLE item IS 'COMMIT'",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SET lock_timeout = '2s'",
        "SET LOCAL statement_timeout = 0",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END",
        "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN x; END; $$",
    ],
)
def test_what_stays_is_sent(sql):
    """An ordinary migration is not affected."""
    assert reason_to_reject(sql) == ""


@pytest.mark.parametrize("impossible", [MYSQL, SQLITE])
def test_where_nothing_can_be_undone_it_says_why(impossible):
    """And does nothing else."""
    assert impossible.reason
    with pytest.raises(NotImplementedError, match=impossible.reason[:20]):
        impossible.bar(None)
    assert POSTGRESQL.reason == ""


@pytest.fixture
def session(database):
    """Yield a PostgreSQL session that may only write in its transaction."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL rehearses in place")
    found = private_connection("default")
    found.ensure_connection()
    POSTGRESQL.prepare(found)
    found.connection.autocommit = False
    POSTGRESQL.bar(found)
    yield found
    found.close()


def say(session, sql):
    with session.wrap_database_errors, session.connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else None


def exists(name):
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [name])
        return cursor.fetchone()[0]


@pytest.mark.parametrize(
    "ways",
    [
        ["COMMIT"],
        ["SELECT 1; COMMIT; CREATE TABLE left_over (id int)"],
        ["SET CONSTRAINTS ALL IMMEDIATE", "COMMIT"],
        ["PREPARE TRANSACTION 'x'"],
        ["COMMIT AND CHAIN"],
        ["ROLLBACK", "CREATE TABLE left_over (id int)"],
    ],
)
def test_the_server_commits_nothing(session, ways):
    """Even without a check on this side, the writes are rolled back."""
    say(session, "CREATE TABLE left_over (id int)")
    assert POSTGRESQL.is_commit_prevented(session)
    *ways, last = ways
    for way in ways:
        say(session, way)
    with pytest.raises((NotSupportedError, InternalError)):
        say(session, last)
    session.close()
    assert not exists("left_over")


def test_a_transaction_that_was_ended_is_noticed(session):
    """The protection has ended with it."""
    session.connection.rollback()
    assert not POSTGRESQL.is_commit_prevented(session)


def test_what_is_deferred_happens_at_the_end_of_a_step(session):
    """Later statements are deferred again, except for constraints that are initially
    immediate."""
    say(session, "CREATE TABLE thing (id int PRIMARY KEY)")
    for name, when in (("later", "DEFERRED"), ("now", "IMMEDIATE")):
        say(
            session,
            f"ALTER TABLE thing ADD {name} int CONSTRAINT {name}_exists REFERENCES thing "
            f"DEFERRABLE INITIALLY {when}",
        )
    say(session, "INSERT INTO thing (id, later) VALUES (1, 2)")
    say(session, "INSERT INTO thing (id) VALUES (2)")
    POSTGRESQL.settle(session)
    say(session, "ALTER TABLE thing ADD more int")  # nothing is pending any more
    say(session, "INSERT INTO thing (id, later) VALUES (3, 4)")  # deferred again
    say(session, "SAVEPOINT s")
    with pytest.raises(IntegrityError):
        say(session, "INSERT INTO thing (id, now) VALUES (5, 6)")
    say(session, "ROLLBACK TO s")
    with pytest.raises(IntegrityError):
        POSTGRESQL.settle(session)


def test_its_bounds_are_those_of_the_transaction(session):
    """A lock timeout never exceeds the remaining total time."""
    POSTGRESQL.bound(session, lock_seconds=0.1, seconds=2.5)
    assert say(session, "SHOW lock_timeout") == [("100ms",)]
    assert say(session, "SHOW statement_timeout") == [("2500ms",)]
    POSTGRESQL.bound(session, lock_seconds=0.1, seconds=0.02)
    assert say(session, "SHOW lock_timeout") == [("20ms",)]
    with pytest.raises(Exception, match="statement timeout") as failed:
        say(session, "SELECT pg_sleep(5)")
    assert POSTGRESQL.trouble(failed.value) is InPlaceFailure.OUT_OF_TIME
    session.connection.rollback()
    assert say(session, "SHOW lock_timeout") == [("0",)]


def test_a_query_is_read_in_every_form_that_the_driver_takes(session):
    """Text, bytes, and composed queries."""
    sql = pytest.importorskip("psycopg.sql")
    composed = sql.SQL("COMMIT; {}").format(sql.Identifier("x"))
    for query in ("COMMIT", b"COMMIT", composed):
        assert reason_to_reject(POSTGRESQL.text_of(session, query))


def test_a_role_without_temporary_tables_is_told_what_to_grant(database):
    """Nothing has started then."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL rehearses in place")
    in_place_of("default").require(connection)
    name = connection.ops.quote_name(connection.settings_dict["NAME"])
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("CREATE ROLE migration_route_nobody")
        cursor.execute(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
        cursor.execute("SET LOCAL ROLE migration_route_nobody")
        with pytest.raises(CannotRehearse, match="temporary tables") as refused:
            in_place_of("default").require(connection)
        assert "GRANT TEMPORARY" in refused.value.hint
        transaction.set_rollback(True)
