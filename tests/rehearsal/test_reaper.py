"""Tests of the cleanup after a killed rehearsal."""

from __future__ import annotations

import os
import socket

import pytest

from migration_route.conf.databases import private_connection, using_private_connection
from migration_route.core import subprocesses
from migration_route.core.enums import ActorKind, CopyKind, Direction, RehearsalState
from migration_route.core.errors import ActiveRehearsal, InvalidState
from migration_route.execution.rehearsal import reaper
from migration_route.ledger import rehearsals
from migration_route.ledger.rehearsals import ACTIVE, NewRehearsal
from migration_route.ledger.runs import new_id
from migration_route.vendors import copies_of, vendor_of
from migration_route.vendors.base import LockSlot
from migration_route.vendors.base_rehearsal import scratch_name

NOBODY = 2**22 + 1  # above every pid of Linux


def open_one(**changes):
    """Record a rehearsal, in the state that a killed one leaves."""
    record = rehearsals.create_rehearsal(
        NewRehearsal(
            database="default",
            kind=CopyKind.SCHEMA,
            round_trip=False,
            direction=Direction.FORWARDS,
            targets=(),
            fingerprint="a-b-c",
            steps=(("shop", "0001_a", "digest"),),
            actor_kind=ActorKind.USER,
            actor_name="ada",
            address="",
            reason="",
            build="this",
        )
    )
    columns = {"host": socket.gethostname(), "pid": NOBODY, **changes}
    rehearsals.move(
        record.id,
        to=RehearsalState.RUNNING,
        expected={RehearsalState.QUEUED},
        **columns,
    )
    return rehearsals.find_rehearsal(record.id)


def make_copy(name):
    with using_private_connection("default") as connection:
        copies_of("default").make(connection, name, with_data=False, alive=lambda: None)


def remove_copy(name):
    with using_private_connection("default") as connection:
        copies_of("default").remove(connection, name)


def is_there(name):
    """Return whether the database exists, by trying to create it."""
    try:
        make_copy(name)
    except Exception:  # noqa: BLE001 - each database has its own error
        return True
    remove_copy(name)
    return False


def test_what_a_killed_one_left_is_removed(database):
    """The rehearsal is failed, with an entry."""
    record = open_one()
    name = scratch_name(record.id)
    rehearsals.update_rehearsal(record.id, scratch_database=name, is_removed=False)
    make_copy(name)
    found = reaper.refresh_rehearsal(rehearsals.find_rehearsal(record.id))
    assert (found.state, found.is_removed) == (RehearsalState.FAILED, True)
    assert found.error is not None
    assert found.error.type == "Interrupted"
    assert not is_there(name)
    assert reaper.remove_leftover_copies() == []


def test_that_of_a_living_one_stays(database):
    """Its lock is held, whatever its heartbeat and its pid say."""
    record = open_one()
    name = scratch_name(record.id)
    rehearsals.update_rehearsal(record.id, scratch_database=name, is_removed=False)
    make_copy(name)
    holder = private_connection("default")
    lock = vendor_of("default").lock(holder, LockSlot.REHEARSAL)
    try:
        assert lock.try_acquire()
        found = reaper.refresh_rehearsal(rehearsals.find_rehearsal(record.id))
        assert (found.state, found.is_removed) == (RehearsalState.RUNNING, False)
        assert is_there(name)
    finally:
        lock.release()
        holder.close()
        remove_copy(name)


def test_a_process_that_is_at_work_is_left_alone(database, monkeypatch):
    """Its lock is not even tried."""
    record = open_one(pid=os.getpid())
    monkeypatch.setattr(subprocesses, "is_run_process", lambda pid, run: pid == os.getpid())
    assert reaper.refresh_rehearsal(record).state is RehearsalState.RUNNING


@pytest.mark.parametrize("name", ["another", scratch_name("f" * 32), "postgres"])
def test_a_name_that_is_not_exactly_that_of_its_rehearsal_is_not_dropped(
    database, name, caplog
):
    """Write access to the row is not enough to drop a database."""
    record = open_one()
    rehearsals.update_rehearsal(record.id, scratch_database=name, is_removed=False)
    reaper.refresh_rehearsal(rehearsals.find_rehearsal(record.id))
    assert "is not a database of a rehearsal" in caplog.text
    assert not rehearsals.find_rehearsal(record.id).is_removed


def test_a_second_one_at_the_same_time_is_refused(database):
    """By the row itself: of two at once, one succeeds."""
    record = open_one()
    with pytest.raises(ActiveRehearsal) as refused:
        open_one()
    assert refused.value.facts["rehearsal"] == record.id


def test_one_that_has_ended_does_not_end_again(database):
    """Nor does a slow process reopen it."""
    record = reaper.refresh_rehearsal(open_one())
    assert record.state is RehearsalState.FAILED
    with pytest.raises(InvalidState):
        rehearsals.move(record.id, to=RehearsalState.SUCCEEDED, expected=ACTIVE)


def test_the_last_one_of_a_plan_is_found_whichever_build_read_it(database):
    """Only the last part of a fingerprint names the plan."""
    record = reaper.refresh_rehearsal(open_one())
    last = rehearsals.last_rehearsal_of("other-build-c")
    assert last is not None
    assert last.id == record.id
    assert rehearsals.last_rehearsal_of("a-b-d") is None
    assert rehearsals.list_rehearsals(database="other") == []
    assert [found.id for found in rehearsals.list_rehearsals()] == [record.id]
    assert rehearsals.list_rehearsals(before=record.id) == []
    assert new_id() > record.id
