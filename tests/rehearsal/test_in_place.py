"""Tests of when a plan is not rehearsed in place, and of the report of one that was."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from migration_route.conf.databases import private_connection
from migration_route.core.enums import RehearsalState
from migration_route.core.errors import (
    ActiveRun,
    CannotRehearse,
    Misconfigured,
    SessionOrphaned,
)
from migration_route.execution.rehearsal import reaper
from migration_route.execution.rehearsal.in_place import hold_run_lock, require_in_place
from migration_route.execution.supervisor.run_lock import LockHolder
from migration_route.ledger import rehearsals
from migration_route.ledger.rehearsals import ObservedStep, Report
from migration_route.ledger.step_evidence import StepError
from migration_route.presentation.serializers import rehearsal_answer
from migration_route.presentation.text.rehearsals import summary
from migration_route.vendors import in_place_of, vendor_of
from migration_route.vendors.base import LockSlot
from tests.factories import a_plan, a_step
from tests.rehearsal.test_reaper import open_one


@pytest.fixture
def undoing(database):
    """Skip where the database cannot roll everything back."""
    if in_place_of("default").reason:
        pytest.skip(f"{connection.vendor} does not rehearse in place")


def test_a_database_that_cannot_undo_it_says_why(database):
    """The error suggests a copy; where it can, the rehearsal is possible."""
    why = in_place_of("default").reason
    if not why:
        require_in_place(a_plan(a_step()), round_trip=False)
        return
    with pytest.raises(CannotRehearse, match="in place") as refused:
        require_in_place(a_plan(a_step()), round_trip=False)
    assert why in refused.value.message
    assert "copy" in refused.value.hint


@pytest.mark.parametrize(
    ("plan", "round_trip", "word"),
    [
        (a_plan(a_step(atomic=False), a_step("0003_b")), False, "not atomic"),
        (a_plan(a_step()), True, "cannot migrate back"),
    ],
)
def test_what_cannot_stand_in_one_transaction_is_refused(undoing, plan, round_trip, word):
    """Before anything has started."""
    with pytest.raises(CannotRehearse, match=word):
        require_in_place(plan, round_trip=round_trip)


def test_a_later_step_that_is_not_atomic_does_not_keep_the_others(undoing):
    """The steps before it can be rehearsed."""
    plan = a_plan(a_step(), a_step("0003_b", atomic=False))
    require_in_place(plan, round_trip=False)


def test_a_setting_that_cannot_be_read_refuses(undoing, settings):
    """It might have been a restriction."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "GARD": True}
    with pytest.raises(Misconfigured, match="GARD"):
        require_in_place(a_plan(a_step()), round_trip=False)


def test_a_freeze_refuses(undoing, settings):
    """A rehearsal takes real locks."""
    now = datetime.now(UTC)
    freeze = {
        "start": (now - timedelta(hours=1)).isoformat(),
        "end": (now + timedelta(hours=1)).isoformat(),
        "reason": "sale",
    }
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "FREEZES": [freeze]}
    with pytest.raises(CannotRehearse, match="sale"):
        require_in_place(a_plan(a_step()), round_trip=False)


@pytest.mark.parametrize(
    ("slot", "refusal"),
    [(LockSlot.SUPERVISOR, ActiveRun), (LockSlot.WORKER, SessionOrphaned)],
)
def test_the_lock_of_the_runs_is_taken(undoing, slot, refusal):
    """No other migration runs meanwhile, and no session is left over."""
    holder, other = private_connection("default"), private_connection("default")
    lock = vendor_of("default").lock(holder, slot)
    try:
        assert lock.try_acquire()
        with pytest.raises(refusal), hold_run_lock("default", other):
            pytest.fail("the lock was taken twice")
        lock.release()
        with hold_run_lock("default", other):
            assert not vendor_of("default").lock(holder, LockSlot.SUPERVISOR).try_acquire()
    finally:
        holder.close()
        other.close()


def worker_session_of(name):
    """Open a session like that of the rehearsal's worker, with its lock."""
    session = private_connection("default")
    vendor_of("default").prepare_worker_session(session, name, lock_timeout=0.1)
    assert vendor_of("default").lock(session, LockSlot.WORKER).try_acquire()
    return session


def test_the_session_of_a_killed_one_is_ended(undoing):
    """By the next check; then the rehearsal is failed, and no lock is left."""
    record = open_one(in_place=True)
    session = worker_session_of(record.id)
    try:
        found = reaper.refresh_rehearsal(record)
        assert found.state is RehearsalState.FAILED
        assert not session.is_usable()
        backend = LockHolder("default")
        assert backend.pid() is None
        backend.close()
    finally:
        session.close()


def test_the_session_of_somebody_else_stays(undoing):
    """A run that has started since is not affected."""
    record = open_one(in_place=True)
    session = worker_session_of("f" * 32)
    try:
        assert reaper.refresh_rehearsal(record).state is RehearsalState.FAILED
        assert session.is_usable()
    finally:
        session.close()


def ended(error=None, states=("applied",), **columns):
    """Record a rehearsal with this end, with steps in these states."""
    record = open_one(in_place=True)
    steps = tuple(
        ObservedStep(app="shop", name=f"000{number}_x", direction="forwards", state=state)
        for number, state in enumerate(states)
    )
    return rehearsals.move(
        record.id,
        to=RehearsalState.FAILED if error else RehearsalState.SUCCEEDED,
        expected={RehearsalState.RUNNING},
        error=error,
        report=Report(steps=steps, duration_ms=1500),
        steps=json.dumps([("shop", step.name, "digest") for step in steps]),
        **columns,
    )


def test_what_was_rehearsed_in_place_says_so(database):
    """The number of rehearsed steps, if not all; and what is not an error of the plan."""
    found = ended()
    assert rehearsal_answer(found).in_place
    assert ", in place, 1.5 s" in summary(rehearsal_answer(found))
    part = ended(states=("applied", "not_started", "not_started"))
    assert "in place, only 1 of 3 steps" in summary(rehearsal_answer(part))
    late = ended(error=StepError(type="InPlaceTimeout", message="x"))
    assert summary(rehearsal_answer(late)).endswith(
        "in place: interrupted (InPlaceTimeout)"
    )
    wrong = ended(error=StepError(type="IntegrityError", message="x"))
    assert summary(rehearsal_answer(wrong)).endswith("in place: failed")
