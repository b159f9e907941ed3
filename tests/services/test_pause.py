"""Tests that a pause, resume or forced cancel reaches a run, and who may request it."""

from __future__ import annotations

import pytest

from migration_route.core import clock
from migration_route.core.enums import ActorKind, RunState, Scope, WaitingReason
from migration_route.core.errors import Forbidden, InvalidState
from migration_route.ledger import runs, spool
from migration_route.ledger import runs as ledger_runs
from migration_route.ledger.control import requested_controls
from migration_route.ledger.queries import find_run, list_entries
from migration_route.ledger.runs import WaitInfo
from migration_route.ledger.verification import verify
from migration_route.services.control import cancel, pause, resume
from tests.factories import a_new_run, an_actor, vendor

pytestmark = pytest.mark.usefixtures("database")

WAITS = [RunState.QUEUED, RunState.WAITING, RunState.RUNNING]


def a_run(state: RunState = RunState.QUEUED):
    """Return a run in this state."""
    run, _ = runs.create_run(a_new_run())
    if state is RunState.QUEUED:
        return run
    return ledger_runs.move(run.id, to=state, expected={RunState.QUEUED})


def last_action() -> tuple[str, str, str]:
    """Return the last action, its actor, and its reason."""
    (entry,) = list_entries(before=None, limit=1)
    return entry.action, entry.actor_name, entry.facts["reason"]


@pytest.mark.parametrize("state", WAITS)
def test_a_run_is_asked_to_wait_once(state):
    """Its state is unchanged until its supervisor acts; the request is on the ledger."""
    run = a_run(state)
    found = pause(run.id, an_actor(), reason="the sale")
    assert (found.state, found.control_request) == (state, "pause")
    assert last_action() == ("pause_requested", "ada", "the sale")
    count = len(list_entries(before=None, limit=50))
    assert pause(run.id, an_actor(), reason="again") == found
    assert len(list_entries(before=None, limit=50)) == count
    assert requested_controls(run.id) == {"pause"}
    assert verify().intact


@pytest.mark.parametrize("state", WAITS)
def test_a_wish_is_taken_back(state):
    """Then there is nothing to resume."""
    run = a_run(state)
    pause(run.id, an_actor(), reason="")
    found = resume(run.id, an_actor(), reason="no sale")
    assert (found.state, found.control_request) == (state, "")
    assert last_action() == ("resumed", "ada", "no sale")
    assert requested_controls(run.id) == set()
    with pytest.raises(InvalidState, match="not paused"):
        resume(run.id, an_actor(), reason="")


def test_a_run_that_waits_for_its_opening_looks_again():
    """At once, by the current settings; until then it waits for the same reason."""
    never = "2099-01-01T00:00:00.000000Z"
    waiting = WaitInfo(reason=WaitingReason.FREEZE, until=never, facts={"why": "the sale"})
    run, _ = runs.create_run(a_new_run(waiting=waiting))
    assert run.waits_to_begin
    found = resume(run.id, an_actor(), reason="it is over")
    assert (found.state, found.waiting_reason) == (RunState.WAITING, WaitingReason.FREEZE)
    assert found.waiting_until < clock.now()
    assert found.waiting_facts == {"why": "the sale"}
    assert not found.override_schedule
    assert last_action() == ("resumed", "ada", "it is over")
    assert verify().intact


def test_a_held_run_goes_on():
    """The state changes at once; its supervisor follows."""
    run = a_run(RunState.PAUSED)
    assert pause(run.id, an_actor(), reason="").state is RunState.PAUSED
    found = resume(run.id, an_actor(), reason="the sale is over")
    assert (found.state, found.waiting_reason) == (RunState.RUNNING, "")
    assert last_action() == ("resumed", "ada", "the sale is over")


@pytest.mark.parametrize(
    "state",
    [RunState.CANCELLING, RunState.LOST, RunState.SUCCEEDED, RunState.PARTIAL],
)
def test_what_is_ending_or_has_ended_is_not_held(state):
    """The error names the state of the run."""
    run = a_run(state)
    for verb in (pause, resume):
        with pytest.raises(InvalidState) as refused:
            verb(run.id, an_actor(), reason="")
        assert refused.value.facts["state"] == find_run(run.id).state


def test_holding_and_resuming_need_the_right_to_operate():
    """And the database."""
    run = a_run(RunState.RUNNING)
    for verb in (pause, resume):
        with pytest.raises(Forbidden):
            verb(run.id, an_actor(Scope.APPLY), reason="")
        with pytest.raises(Forbidden):
            verb(run.id, an_actor(databases=frozenset({"other"})), reason="")
    assert find_run(run.id).control_request == ""


def test_a_wish_stands_beside_the_file_while_a_migration_holds_it():
    """It is shown as if it were in the row, and can be withdrawn in the same way."""
    if vendor() != "sqlite":
        pytest.skip("only SQLite has a folder beside it")
    run = a_run(RunState.RUNNING)
    folder = spool.spool_dir("default")
    assert folder is not None
    file = spool.RunSpool(folder, run.id)
    file.beat()
    assert pause(run.id, an_actor(), reason="").control_request == "pause"
    assert file.control_requests == {"pause"}
    assert requested_controls(run.id) == {"pause"}
    assert resume(run.id, an_actor(), reason="").control_request == ""
    assert file.control_requests == set()
    assert cancel(run.id, an_actor(), reason="").state is RunState.CANCELLING
    assert requested_controls(run.id) == {"cancel"}
    file.remove(at_the_end=True)
    assert requested_controls(run.id) == set()


def test_force_is_a_right_of_its_own_and_no_machines():
    """The right to cancel does not include it; a token may not, whatever its scopes."""
    run = a_run(RunState.RUNNING)
    token = an_actor(kind=ActorKind.TOKEN)
    for actor in (an_actor(Scope.OPERATE), token):
        with pytest.raises(Forbidden):
            cancel(run.id, actor, reason="", force=True)
    assert find_run(run.id).state is RunState.RUNNING


@pytest.mark.parametrize("state", [RunState.WAITING, RunState.RUNNING, RunState.PAUSED])
def test_force_concludes_a_run_that_nobody_is_at_work_for(state):
    """Its processes have ended, its locks are free: it is cancelled."""
    run = a_run(state)
    found = cancel(run.id, an_actor(Scope.FORCE), reason="dead", force=True)
    assert (found.state, found.outcome) == (RunState.CANCELLED, "cancelled")
    assert not find_run(run.id).is_active
    actions = [entry.action for entry in list_entries(before=None, limit=10)]
    assert "force_requested" in actions
    assert verify().intact


def test_a_run_that_has_not_begun_is_cancelled_at_once_by_force_as_well():
    """There is nothing to kill."""
    found = cancel(a_run().id, an_actor(), reason="", force=True)
    assert found.state is RunState.CANCELLED
