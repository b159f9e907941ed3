"""Tests of the lock timeout of each statement of a step, read from PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.db import ProgrammingError, connections, transaction

from migration_route.conf import DatabaseSettings
from migration_route.execution.worker.lock_retry import BlockerMonitor, LockAttempts
from migration_route.execution.worker.session_limits import StatementTimeouts
from migration_route.vendors import vendor_of
from tests.execution.test_attempts import Listener
from tests.factories import vendor

Limited = Callable[[str], str]
NONE, SHORT = "0", "500ms"
ALTER = "ALTER TABLE limit_item ADD COLUMN IF NOT EXISTS more integer"


@pytest.fixture
def limit_of(database: None) -> Iterator[Limited]:
    """Return a function that sends a statement with the limits applied, and returns its
    timeout."""
    if vendor() != "postgresql":
        pytest.skip("the limit of a session is asked of PostgreSQL")
    connection = connections["default"]
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE limit_item (id integer)")
    contention = vendor_of("default").contention
    assert contention is not None
    watch = BlockerMonitor("default", contention)
    limits = StatementTimeouts(
        contention, watch, LockAttempts(DatabaseSettings(), Listener())
    )

    def send(sql: str) -> str:
        with connection.cursor() as cursor:
            cursor.execute(sql)
        with connection.connection.cursor() as cursor:  # bypasses the limits
            cursor.execute("SHOW lock_timeout")
            return str(cursor.fetchone()[0])

    with limits.around(connection):
        yield send
    watch.close()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE limit_item")
    connection.close()


def test_outside_of_a_transaction_each_class_has_its_own(limit_of: Limited) -> None:
    """DDL has a short one; other statements and concurrent ones do not."""
    assert limit_of("SELECT 1") == NONE
    assert limit_of(ALTER) == SHORT
    assert limit_of("INSERT INTO limit_item VALUES (1)") == NONE
    assert limit_of("CREATE INDEX CONCURRENTLY limit_i ON limit_item (id)") == NONE
    assert limit_of("CREATE INDEX limit_j ON limit_item (id)") == SHORT


def test_behind_a_definition_everything_is_short(limit_of: Limited) -> None:
    """Its locks are held to the end of the transaction; a new table blocks no session."""
    with transaction.atomic():
        assert limit_of("INSERT INTO limit_item VALUES (1)") == NONE
        assert limit_of("CREATE TEMPORARY TABLE limit_new (id integer)") == SHORT
        assert limit_of("INSERT INTO limit_item VALUES (1)") == NONE
        assert limit_of(ALTER) == SHORT
        assert limit_of("INSERT INTO limit_item VALUES (1)") == SHORT
    with transaction.atomic():
        assert limit_of("INSERT INTO limit_item VALUES (1)") == NONE


def test_a_rollback_undoes_no_limit(limit_of: Limited) -> None:
    """The server forgets the setting; it is set again."""
    assert limit_of("SELECT 1") == NONE
    with transaction.atomic():
        assert limit_of(ALTER) == SHORT
        transaction.set_rollback(True)
    assert limit_of(ALTER) == SHORT
    with transaction.atomic():
        assert limit_of("SELECT 1") == NONE
        with transaction.atomic():
            assert limit_of(ALTER) == SHORT
            transaction.set_rollback(True)
        assert limit_of("CREATE INDEX limit_k ON limit_item (id)") == SHORT


def test_a_savepoint_takes_back_what_has_failed(limit_of: Limited) -> None:
    """A migration that expects an error, and continues, works here as well."""
    with transaction.atomic():
        assert limit_of(ALTER) == SHORT
        with pytest.raises(ProgrammingError), transaction.atomic():
            limit_of("SELECT * FROM surely_not_there")
        assert limit_of("INSERT INTO limit_item VALUES (1)") == SHORT


def test_a_migration_that_sets_its_limit_is_left_alone(limit_of: Limited) -> None:
    """From there on, for all statements."""
    assert limit_of("SELECT 1") == NONE
    assert limit_of("SET lock_timeout = '7s'") == "7s"
    assert limit_of(ALTER) == "7s"
    assert limit_of("SELECT 1") == "7s"
