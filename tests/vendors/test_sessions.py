"""Tests of finding, describing, cancelling and ending the session that holds a lock."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from django.db import DatabaseError, connections

from migration_route.conf.databases import private_connection
from migration_route.core import subprocesses
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot
from tests.factories import at_once, vendor
from tests.harness.deadlines import until

pytestmark = pytest.mark.usefixtures("database")

_HOLD = """
import django; django.setup()
from migration_route.vendors import vendor_of
from migration_route.conf.databases import private_connection
from migration_route.vendors.base import LockSlot
connection = private_connection("default")
vendor_of("default").prepare_worker_session(connection, "a run", lock_timeout=1)
print(vendor_of("default").lock(connection, LockSlot.WORKER).try_acquire(), flush=True)
import time
time.sleep(60)
"""
_SLEEP = {
    "postgresql": "SELECT pg_sleep(40)",
    "mysql": "SELECT COUNT(*) FROM (SELECT SLEEP(40) AS slept) AS sleeper",
}


@pytest.fixture
def holder(project) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds the worker's lock."""
    project()
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD],
        env=subprocesses.environment(),
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"True\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def lock(slot: LockSlot = LockSlot.WORKER):
    """Return the lock, checked over the usual connection."""
    return vendor_of("default").lock(connections["default"], slot)


def sessions():
    """Return what the usual connection can see and do."""
    return vendor_of("default").sessions(connections["default"])


def test_nobody_holds_a_lock_that_is_free():
    """Neither before it was first taken, nor after its release."""
    assert lock().holder() is None
    connection = private_connection("default")
    held = vendor_of("default").lock(connection, LockSlot.WORKER)
    assert held.try_acquire()
    held.release()
    assert lock().holder() is None
    connection.close()


def test_the_holder_is_found_and_described(holder):
    """By the worker's lock, not by the supervisor's."""
    pid = lock().holder()
    assert lock(LockSlot.SUPERVISOR).holder() is None
    found = sessions().describe(pid)
    assert found.pid == pid
    assert set(found.to_dict()) == {
        "pid",
        "user",
        "application",
        "query",
        "since",
        "state",
    }
    if vendor() == "sqlite":
        assert pid == holder.pid
    else:
        assert not found.is_busy
        assert found.since
    if vendor() == "postgresql":
        assert found.application == "migration-route:a run"


def test_a_session_that_is_ended_gives_its_lock_back(holder):
    """It has ended then; ending it again reports that."""
    pid = lock().holder()
    assert sessions().end(pid)
    until(lambda: lock().holder() is None, seconds=20, what="the lock is free")
    holder.kill()
    holder.wait()
    until(lambda: sessions().describe(pid) is None, seconds=20, what="it is gone")
    assert not sessions().end(pid)
    assert not sessions().cancel_statement(pid)


def test_a_statement_is_cancelled_and_its_session_lives_on():
    """The statement fails at once."""
    if vendor() == "sqlite":
        pytest.skip("SQLite has no sessions")
    sleeper = private_connection("default")
    sleeper.inc_thread_sharing()
    held = vendor_of("default").lock(sleeper, LockSlot.WORKER)
    assert held.try_acquire()
    pid = lock().holder()

    def work(position: int) -> object:
        if position == 0:
            with sleeper.cursor() as cursor:
                cursor.execute(_SLEEP[vendor()])
            return "slept through"
        until(
            lambda: (found := sessions().describe(pid)) and "40" in found.query,
            seconds=20,
            what="the statement is seen",
        )
        found = sessions().describe(pid)
        return found.is_busy, sessions().cancel_statement(pid)

    begun = time.monotonic()
    error, cancelled = at_once(2, work)
    assert isinstance(error, DatabaseError)
    assert cancelled == (True, True)
    assert time.monotonic() - begun < 30
    assert lock().holder() == pid
    sleeper.close()
