"""Tests that only one session holds the lock of a database, until it has ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.conf.databases import private_connection
from migration_route.core import subprocesses
from migration_route.core.errors import Misconfigured
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot, TargetLock
from tests.factories import at_once, vendor

pytestmark = pytest.mark.usefixtures("database")

_HOLD = """
import sys, time
import django; django.setup()
from migration_route.vendors import vendor_of
from migration_route.conf.databases import private_connection
from migration_route.vendors.base import LockSlot
connection = private_connection("default")
lock = vendor_of("default").lock(connection, LockSlot.SUPERVISOR)
print(lock.try_acquire(), flush=True)
time.sleep(60)
"""


@contextmanager
def lock_of(
    alias: str = "default", slot: LockSlot = LockSlot.SUPERVISOR
) -> Iterator[tuple[TargetLock, BaseDatabaseWrapper]]:
    """Yield a lock on a separate connection."""
    connection = private_connection(alias)
    lock = vendor_of(alias).lock(connection, slot)
    try:
        yield lock, connection
    finally:
        if vendor(alias) == "sqlite":
            lock.release()
        connection.close()


def soon(lock: TargetLock) -> bool:
    """Take the lock as soon as it is free; a server may need a while to notice."""
    deadline = time.monotonic() + 10
    while not lock.try_acquire():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_a_second_connection_cannot_take_it():
    """It is taken once, refused at once, and free again when released."""
    with lock_of() as (first, _), lock_of() as (second, _):
        assert first.try_acquire()
        start = time.monotonic()
        assert not second.try_acquire()
        assert time.monotonic() - start < 2
        assert first.release()
        assert second.try_acquire()


def test_of_many_at_once_one_takes_it():
    """Eight threads, each with its own connection."""
    connection_of = [private_connection("default") for _ in range(8)]
    locks = [vendor_of("default").lock(c, LockSlot.SUPERVISOR) for c in connection_of]
    for connection in connection_of:
        connection.inc_thread_sharing()
    try:
        taken = at_once(8, lambda position: locks[position].try_acquire())
        assert sorted(taken) == [False] * 7 + [True]
    finally:
        for lock in locks:
            lock.release()
        for connection in connection_of:
            connection.close()


def test_the_supervisors_lock_is_not_the_workers():
    """One run holds both."""
    with lock_of() as (first, _), lock_of(slot=LockSlot.WORKER) as (second, _):
        assert first.try_acquire()
        assert second.try_acquire()


def test_each_database_has_a_lock_of_its_own():
    """Two databases can be migrated at the same time."""
    with lock_of() as (first, _), lock_of("other") as (second, _):
        assert first.try_acquire()
        assert second.try_acquire()


def test_what_is_not_held_cannot_be_given_back():
    """`release` returns that the lock had been lost."""
    with lock_of() as (lock, _):
        assert not lock.release()


def test_its_holder_can_prove_that_it_is_held():
    """From acquisition to release, and by no other session."""
    with lock_of() as (first, _), lock_of() as (second, _):
        assert not first.is_held()
        assert first.try_acquire()
        assert first.is_held()
        assert not second.is_held()
        first.release()
        assert not first.is_held()


def test_what_has_gone_is_not_held():
    """The server has ended the session, or the file was removed."""
    with lock_of() as (lock, connection):
        assert lock.try_acquire()
        if vendor() == "sqlite":
            database = Path(connection.settings_dict["NAME"])
            database.with_name(f"{database.name}.route-lock-1").unlink()
        else:
            end_session(connection)
        assert not lock.is_held()
        connection.close()
        assert not lock.is_held()


def end_session(connection: BaseDatabaseWrapper) -> None:
    """Make the server end the session of a connection, as an administrator does."""
    mine, end = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%s)"),
        "mysql": ("SELECT CONNECTION_ID()", "KILL %s"),
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(mine)
        (session,) = cursor.fetchone()
    with connections["default"].cursor() as cursor:
        cursor.execute(end, [session])


@pytest.mark.filterwarnings("ignore:you don't own a lock")
def test_it_goes_with_the_connection():
    """A server releases the lock of an ended session."""
    if not vendor_of("default").lock_is_of_session:
        pytest.skip("on SQLite the lock belongs to the process")
    with lock_of() as (first, connection), lock_of() as (second, _):
        assert first.try_acquire()
        connection.close()
        assert soon(second)


def test_it_goes_with_the_process(project):
    """A killed holder leaves nothing that must be cleaned up."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD],
        env=subprocesses.environment(),
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"True\n"
        with lock_of() as (lock, _):
            assert not lock.try_acquire()
            os.kill(holder.pid, signal.SIGKILL)
            holder.wait()
            assert soon(lock)
    finally:
        holder.kill()
        holder.communicate()


def test_the_file_of_the_lock_is_taken_away():
    """No file beside an SQLite file is left."""
    if vendor() != "sqlite":
        pytest.skip("there are no files beside a server's database")
    with lock_of() as (lock, connection):
        database = Path(connection.settings_dict["NAME"])
        beside = database.with_name(f"{database.name}.route-lock-1")
        assert lock.try_acquire()
        assert beside.exists()
        lock.release()
        assert not beside.exists()


def test_taking_it_twice_and_giving_it_back_leaves_it_free():
    """The holder may ask again without deadlocking."""
    if vendor() != "sqlite":
        pytest.skip("servers count how often a session takes its lock")
    with lock_of() as (first, _), lock_of() as (second, _):
        assert first.try_acquire()
        assert first.try_acquire()
        assert first.release()
        assert second.try_acquire()


def test_two_names_of_one_file_are_one_lock(tmp_path, monkeypatch):
    """A symlink, a relative path and a URI mean the same database."""
    if vendor() != "sqlite":
        pytest.skip("only SQLite has file names")
    real = tmp_path / "real.sqlite3"
    real.touch()
    link = tmp_path / "link.sqlite3"
    link.symlink_to(real)
    monkeypatch.chdir(tmp_path)
    names = [
        str(real),
        str(link),
        "real.sqlite3",
        f"file:{real}?cache=private",
        f"file://{real}",
    ]
    locks = []
    for name in names:
        connection = connections["default"].copy()
        connection.settings_dict = {**connection.settings_dict, "NAME": name}
        locks.append(vendor_of("default").lock(connection, LockSlot.SUPERVISOR))
    assert [lock.try_acquire() for lock in locks] == [True, False, False, False, False]
    locks[0].release()


def test_a_database_of_another_kind_is_refused_by_name(monkeypatch):
    """This package does not pretend to lock what it cannot lock."""
    with monkeypatch.context() as patch:
        patch.setattr(type(connections["default"]), "vendor", "oracle")
        with pytest.raises(Misconfigured, match="'oracle'"):
            vendor_of("default")
