"""Tests that a run that waits for its database's lock puts little load on the servers."""

from __future__ import annotations

import pytest
from django.db import connections

from migration_route.conf.databases import private_connection
from migration_route.core.enums import RunState
from migration_route.ledger.queries import find_run
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot
from tests.execution.runs import begin, until
from tests.factories import vendor

pytestmark = pytest.mark.slow


def sessions_so_far() -> int:
    """Return the number of sessions of the test's database (PostgreSQL manual, 28.2.17)."""
    with connections["default"].cursor() as cursor:
        cursor.execute(
            "SELECT sessions FROM pg_stat_database WHERE datname = current_database()"
        )
        (count,) = cursor.fetchone()
    return int(count)


def test_a_run_that_waits_for_its_lock_opens_no_connection_for_each_look(
    history, settings, project
):
    """It checks ten times a second, for as long as another run takes."""
    if vendor() != "postgresql":
        pytest.skip("PostgreSQL counts the sessions of one database")
    history.table("0001_a", "made_a")
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "HEARTBEAT_TIMEOUT": "1s"}
    project()
    connection = private_connection("default")
    lock = vendor_of("default").lock(connection, LockSlot.SUPERVISOR)
    until(lock.try_acquire, "the lock is taken")
    try:
        run = begin("testapp")
        until(lambda: find_run(run.id).state is RunState.WAITING, "it waits")
        beats = {find_run(run.id).heartbeat_at}
        before = sessions_so_far()

        def has_looked_often() -> bool:
            beats.add(find_run(run.id).heartbeat_at)
            return len(beats) > 6

        until(has_looked_often, "it has looked at its lock twenty times")
        assert sessions_so_far() - before <= 2
    finally:
        lock.release()
        connection.close()
    until(lambda: not find_run(run.id).is_active, "the run has ended")
    assert find_run(run.id).state is RunState.SUCCEEDED
