"""Tests that a process that gets SIGTERM before its turn ends at once, with a true
state."""

from __future__ import annotations

import signal

import pytest

from migration_route.conf.databases import private_connection
from migration_route.core.enums import RunState, StepState
from migration_route.execution.launchers.process import start
from migration_route.ledger.queries import find_run
from migration_route.services.control import pause
from migration_route.vendors import vendor_of
from migration_route.vendors.base import LockSlot
from tests.execution.runs import LONG, Keeper, begin, until
from tests.factories import an_actor

pytestmark = pytest.mark.slow


@pytest.fixture
def permitted(history, project, settings):
    """Return a permitted run, and the process that has not been started yet."""
    settings.MIGRATION_ROUTE = {
        **settings.MIGRATION_ROUTE,
        "LAUNCHER": "tests.execution.runs.Keeper",
    }
    project()
    history.table("0001_a", "made_a")
    run = begin("testapp")
    assert Keeper.kept is not None
    return run, lambda: start(*Keeper.kept)


def in_state(run, state):
    """Wait until a run is in a state."""
    return until(lambda: find_run(run.id).state is state, f"the run is {state}")


def assert_interrupted(run):
    """Assert that the run was interrupted by a signal before it started."""
    found = find_run(run.id)
    assert (found.state, found.outcome) == (RunState.FAILED, "interrupted")
    assert found.error is not None
    assert found.error.type == "Interrupted"
    assert "SIGTERM" in found.error.message
    assert [step.state for step in found.steps] == [StepState.NOT_STARTED]


def test_sigterm_while_it_waits_for_its_turn(permitted):
    """Another run holds the lock."""
    run, go = permitted
    connection = private_connection("default")
    lock = vendor_of("default").lock(connection, LockSlot.SUPERVISOR)
    assert lock.try_acquire()
    process = go()
    in_state(run, RunState.WAITING)
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG) == 1
    lock.release()
    connection.close()
    assert_interrupted(run)


def test_sigterm_while_it_is_held(permitted):
    """It was paused before it had started, and waits before its first step."""
    run, go = permitted
    pause(run.id, an_actor(), reason="the sale")
    process = go()
    in_state(run, RunState.PAUSED)
    assert find_run(run.id).waiting_reason == "paused"
    process.send_signal(signal.SIGTERM)
    assert process.wait(LONG) == 1
    assert_interrupted(run)
