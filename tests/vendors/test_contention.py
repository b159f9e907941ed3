"""Tests of finding blocking sessions and of lock timeouts, on a real server."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.db import DatabaseError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf.databases import private_connection
from migration_route.execution.worker.lock_retry import BlockerMonitor
from migration_route.vendors import vendor_of
from migration_route.vendors.base import Blocker, LockInspector, TableLockRequest
from tests.factories import vendor
from tests.harness.deadlines import until

pytestmark = pytest.mark.usefixtures("tables")


@pytest.fixture
def tables(database: None) -> Iterator[None]:
    """Create two tables, one of which references the other."""
    if vendor() == "sqlite":
        pytest.skip("SQLite has one writer, which waits by itself")
    with connections["default"].cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS way_item")
        cursor.execute("DROP TABLE IF EXISTS way_owner")
        cursor.execute("CREATE TABLE way_owner (id integer PRIMARY KEY)")
        cursor.execute(
            "CREATE TABLE way_item (id integer PRIMARY KEY, owner integer, "
            "FOREIGN KEY (owner) REFERENCES way_owner (id))"
        )
    yield
    with connections["default"].cursor() as cursor:
        cursor.execute("DROP TABLE way_item")
        cursor.execute("DROP TABLE way_owner")


def contention() -> LockInspector:
    """Return the lock observer of the default database."""
    found = vendor_of("default").contention
    assert found is not None
    return found


@contextmanager
def somebody() -> Iterator[BaseDatabaseWrapper]:
    """Yield a separate session."""
    connection = private_connection("default")
    try:
        connection.ensure_connection()
        yield connection
    finally:
        connection.close()


@contextmanager
def reading(table: str = "way_item") -> Iterator[BaseDatabaseWrapper]:
    """Read a table in a transaction that stays open."""
    with somebody() as connection, connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"SELECT * FROM {table}")
        cursor.fetchall()
        yield connection
        cursor.execute("ROLLBACK")


def wanted(sql: str) -> tuple[TableLockRequest, ...]:
    """Return the locks that a statement needs."""
    connection = connections["default"]
    connection.ensure_connection()
    return contention().tables(connection, contention().lock_request(sql))


def look(sql: str) -> list[Blocker]:
    """Return the sessions that block a statement."""
    with somebody() as connection:
        return contention().blockers_of(connection, wanted(sql))


def seen(pid: int, blockers: Callable[[], list[Blocker]]) -> dict[int, Blocker]:
    """Return the blocking sessions as soon as this one is among them: InnoDB reports
    transactions from a snapshot that is up to 0.1 s old, whichever session requested it."""

    def look_again() -> dict[int, Blocker] | None:
        found = {blocker.pid: blocker for blocker in blockers()}
        return found if pid in found else None

    return until(look_again, seconds=10, what=f"session {pid} is seen")


def test_the_names_of_a_statement_become_tables():
    """Unknown names are ignored; a drop includes the tables that foreign keys reference."""
    names = {want.table.split(".")[-1] for want in wanted("ALTER TABLE way_item ADD x int")}
    assert names == {"way_item"}
    if vendor() == "postgresql":
        dropped = {want.table for want in wanted("DROP TABLE way_item")}
        assert dropped == {"public.way_item", "public.way_owner"}
        index = {want.table for want in wanted("DROP INDEX way_item_pkey")}
        assert index == {"public.way_item"}


def test_a_reader_is_in_the_way_of_an_alter():
    """With pid and query, since when, and in which state."""
    with reading() as other:
        pid = contention().session(other)
        found = seen(pid, lambda: look("ALTER TABLE way_item ADD x int"))
    blocker = found[pid]
    assert blocker.since.endswith("Z")
    assert blocker.state == "idle in transaction"
    assert not blocker.is_server
    if vendor() == "postgresql":
        assert list(found) == [pid]
        assert "FROM way_item" in blocker.query
        assert blocker.certain


def test_a_reader_is_not_in_the_way_of_what_lets_readers_pass():
    """An index needs a weaker lock, and another table is unaffected."""
    if vendor() != "postgresql":
        pytest.skip("a definition wants the whole table here")
    with reading():
        assert look("CREATE INDEX i ON way_item (owner)") == []
        assert look("ALTER TABLE way_owner ADD x int") == []
    with somebody() as other, other.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO way_owner VALUES (1)")
        assert len(look("CREATE INDEX i ON way_owner (id)")) == 1
        cursor.execute("ROLLBACK")


def test_only_an_old_transaction_holds_a_statement_back():
    """A young one will soon end, and the own session never blocks itself."""
    if vendor() != "postgresql":
        pytest.skip("locks are not to be seen here")
    own = connections["default"]
    own.ensure_connection()
    watch = BlockerMonitor("default", contention())
    try:
        with reading() as other:
            wants = wanted("ALTER TABLE way_item ADD x int")
            assert watch.holds_back(own, wants, older_than=60) == ([], 0.0)
            blockers, _ = watch.holds_back(own, wants, older_than=0)
            assert len(blockers) == 1
            assert watch.holds_back(other, wants, older_than=0) == ([], 0.0)
    finally:
        watch.close()


def test_a_limit_ends_the_waiting():
    """The error is a lock timeout, after about the configured time."""
    with reading(), somebody() as altering:
        contention().limit(altering, 0.2)
        start = time.monotonic()
        with pytest.raises(OperationalError) as refused, altering.cursor() as cursor:
            cursor.execute("ALTER TABLE way_item ADD x integer")
        assert time.monotonic() - start < 10
        assert contention().is_contention(refused.value)
    with pytest.raises(DatabaseError) as wrong, connections["default"].cursor() as cursor:
        cursor.execute("SELECT * FROM surely_not_there")
    assert not contention().is_contention(wrong.value)


def test_a_session_is_ended_only_while_it_is_the_same():
    """A reused pid belongs to another session."""
    with somebody() as other, somebody() as ending:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT * FROM way_item")
            cursor.fetchall()
        pid = contention().session(other)
        wants = wanted("ALTER TABLE way_item ADD x int")
        found = seen(pid, lambda: contention().blockers_of(ending, wants))[pid]
        if vendor() == "postgresql":
            stranger = Blocker(
                **{
                    **{f: getattr(found, f) for f in Blocker.__dataclass_fields__},
                    "begun": "another time",
                }
            )
            assert not contention().end(ending, stranger)
        assert contention().end(ending, found)
        with pytest.raises(DatabaseError), other.cursor() as cursor:
            cursor.execute("SELECT 1")
