"""Tests that a run is created once, and changes its state by compare-and-set."""

from __future__ import annotations

import time

import pytest

from migration_route.core.enums import (
    ACTIVE_STATES,
    ENDED_STATES,
    Action,
    ActorKind,
    RunState,
    StepState,
)
from migration_route.core.errors import (
    ActiveRun,
    IdempotencyMismatch,
    InvalidState,
    UnknownRun,
)
from migration_route.ledger import runs
from migration_route.ledger.queries import (
    active_runs,
    find_repeated,
    find_run,
    list_entries,
    list_runs,
    unresolved_runs,
)
from migration_route.ledger.step_evidence import StepError
from migration_route.ledger.verification import verify
from migration_route.models import Run
from tests.factories import a_new_run, a_step_record, at_once

pytestmark = pytest.mark.usefixtures("database")

UNKNOWN = "0" * 32


def test_a_run_begins_queued_with_its_request_on_record():
    """Row and entry are created together: who, what, from where and why."""
    run, is_new = runs.create_run(a_new_run())
    assert is_new
    assert (run.state, run.steps, run.last_event) == (RunState.QUEUED, a_new_run().steps, 0)
    assert find_run(run.id) == run
    (entry,) = list_entries(before=None, limit=10)
    assert (entry.action, entry.run, entry.actor_name, entry.address) == (
        Action.RUN_REQUESTED,
        run.id,
        "deployer",
        "192.0.2.1",
    )
    assert entry.facts["fingerprint"] == run.fingerprint
    assert entry.facts["reason"] == "a test"


def test_of_twenty_at_once_one_wins():
    """Nineteen get the run that owns the database; there is one row and one entry."""
    found = at_once(20, lambda _: runs.create_run(a_new_run()))
    won = [answer for answer in found if isinstance(answer, tuple)]
    lost = [answer for answer in found if isinstance(answer, ActiveRun)]
    assert (len(won), len(lost)) == (1, 19), found
    assert {error.facts["run"] for error in lost} == {won[0][0].id}
    assert Run.objects.count() == 1
    assert [entry.action for entry in list_entries(before=None, limit=10)] == [
        Action.RUN_REQUESTED
    ]


def test_another_database_has_a_run_of_its_own():
    """The limit is one run per database."""
    runs.create_run(a_new_run())
    runs.create_run(a_new_run(database="other"))
    assert set(active_runs()) == {"default", "other"}


@pytest.mark.parametrize("state", sorted(ENDED_STATES))
def test_a_run_that_has_ended_owns_nothing(state):
    """The next one may start."""
    run, _ = runs.create_run(a_new_run())
    moved = runs.move(run.id, to=state, expected={RunState.QUEUED})
    assert not moved.is_active
    assert moved.finished_at
    assert active_runs() == {}
    assert runs.create_run(a_new_run())[1]


@pytest.mark.parametrize("state", sorted(ACTIVE_STATES - {RunState.QUEUED}))
def test_a_run_that_is_active_owns_its_database(state):
    """Whatever it waits for, no other run starts."""
    run, _ = runs.create_run(a_new_run())
    moved = runs.move(run.id, to=state, expected={RunState.QUEUED})
    assert moved.is_active
    assert not moved.finished_at
    with pytest.raises(ActiveRun, match=state):
        runs.create_run(a_new_run())


# --- the same request again ---------------------------------------------------------


def keyed(**changes: object) -> runs.NewRun:
    """Return a run that is requested with an Idempotency-Key."""
    return a_new_run(**{"idempotency_key": "k" * 64, **changes})


def test_the_same_key_and_request_is_the_same_run():
    """Also after it has ended, and the repetition writes nothing."""
    run, _ = runs.create_run(keyed())
    assert runs.create_run(keyed()) == (run, False)
    ended = runs.move(run.id, to=RunState.SUCCEEDED, expected={RunState.QUEUED})
    assert runs.create_run(keyed()) == (ended, False)
    assert find_repeated("k" * 64, "c" * 64) == ended
    assert Run.objects.count() == 1


def test_the_same_key_with_another_request_is_refused():
    """A key belongs to one request; the error names its run."""
    run, _ = runs.create_run(keyed())
    with pytest.raises(IdempotencyMismatch) as refused:
        runs.create_run(keyed(request_digest="d" * 64))
    assert refused.value.facts["run"] == run.id
    with pytest.raises(IdempotencyMismatch):
        find_repeated("k" * 64, "d" * 64)


def test_another_key_begins_another_run():
    """Once the first has ended."""
    first, _ = runs.create_run(keyed())
    runs.move(first.id, to=RunState.FAILED, expected={RunState.QUEUED})
    second, is_new = runs.create_run(keyed(idempotency_key="l" * 64))
    assert is_new
    assert second.id != first.id


def test_the_same_request_ten_times_at_once_is_one_run():
    """A client that timed out and sent it again gets the one run ten times."""
    found = at_once(10, lambda _: runs.create_run(keyed()))
    assert all(isinstance(answer, tuple) for answer in found), found
    assert len({run.id for run, _ in found}) == 1
    assert sorted(is_new for _, is_new in found) == [False] * 9 + [True]


def test_a_key_with_two_requests_at_once_begins_one_of_them():
    """Five of each: one request gets its run, the other a mismatch."""
    bodies = ["c" * 64, "d" * 64]
    found = at_once(10, lambda n: runs.create_run(keyed(request_digest=bodies[n % 2])))
    won = [answer for answer in found if isinstance(answer, tuple)]
    lost = [answer for answer in found if isinstance(answer, IdempotencyMismatch)]
    assert (len(won), len(lost)) == (5, 5), found
    assert len({run.id for run, _ in won}) == 1


# --- transitions ----------------------------------------------------------------------


def test_a_transition_writes_row_and_entry_together():
    """From, to, who and why are on the ledger."""
    run, _ = runs.create_run(a_new_run())
    error = StepError(type="OperationalError", message="no", operation=0, sqlstate="42P01")
    steps = (a_step_record(state=StepState.FAILED, error=error),)
    change = runs.Change(
        outcome="failed",
        error=error,
        steps=steps,
        actor_kind=ActorKind.USER,
        actor_name="ada",
        address="192.0.2.7",
        reason="because",
    )
    moved = runs.move(run.id, to=RunState.FAILED, expected={RunState.QUEUED}, change=change)
    assert (moved.state, moved.outcome, moved.error, moved.steps) == (
        RunState.FAILED,
        "failed",
        error,
        steps,
    )
    entry = list_entries(before=None, limit=1)[0]
    assert (entry.action, entry.actor_name) == (Action.RUN_STATE, "ada")
    assert (entry.facts["from"], entry.facts["to"]) == ("queued", "failed")
    assert entry.facts["reason"] == "because"
    assert entry.facts["steps"] == [["testapp", "0002_more", "failed"]]
    assert verify().intact


def test_a_run_in_another_state_stays_there():
    """The error names its state, and nothing is written."""
    run, _ = runs.create_run(a_new_run())
    with pytest.raises(InvalidState, match="is queued") as refused:
        runs.move(run.id, to=RunState.SUCCEEDED, expected={RunState.RUNNING})
    assert refused.value.facts == {"run": run.id, "state": "queued"}
    assert find_run(run.id) == run
    assert len(list_entries(before=None, limit=10)) == 1


def test_of_many_at_once_one_moves_it():
    """Ten try to end it, each in its own way; one does."""
    run, _ = runs.create_run(a_new_run())
    ends = [RunState.CANCELLED, RunState.FAILED]
    found = at_once(
        10, lambda n: runs.move(run.id, to=ends[n % 2], expected={RunState.QUEUED})
    )
    assert sum(isinstance(answer, InvalidState) for answer in found) == 9, found
    assert len(list_entries(before=None, limit=10)) == 2
    assert verify().intact


def test_an_unknown_run_cannot_be_moved_or_found():
    """The error is the same for reading and writing."""
    with pytest.raises(UnknownRun):
        runs.move(UNKNOWN, to=RunState.FAILED, expected={RunState.QUEUED})
    with pytest.raises(UnknownRun):
        find_run(UNKNOWN)


def test_a_reason_to_wait_goes_with_the_next_transition():
    """The reason for waiting is not shown when the run is running."""
    run, _ = runs.create_run(a_new_run())
    waits = runs.Change(waiting_reason="lock")
    waiting = runs.move(
        run.id, to=RunState.WAITING, expected={RunState.QUEUED}, change=waits
    )
    assert waiting.waiting_reason == "lock"
    running = runs.move(run.id, to=RunState.RUNNING, expected={RunState.WAITING})
    assert running.waiting_reason == ""


def test_ids_sort_by_time_and_never_repeat():
    """Newest first needs no other column."""
    found = []
    for _ in range(3):
        found += [runs.new_id() for _ in range(500)]
        time.sleep(0.002)
    assert len(set(found)) == 1500
    assert max(found[:500]) < min(found[1000:])
    assert all(len(one) == 32 and one[12] == "7" and one[16] in "89ab" for one in found)


def test_runs_are_listed_newest_first_by_page():
    """Of all databases or one, before a cursor."""
    ids = []
    for database in ("default", "other", "default"):
        run, _ = runs.create_run(a_new_run(database=database))
        runs.move(run.id, to=RunState.FAILED, expected={RunState.QUEUED})
        ids.append(run.id)
        time.sleep(0.002)
    every = list_runs(database=None, before=None, limit=10)
    assert [run.id for run in every] == ids[::-1]
    assert [r.id for r in list_runs(database="other", before=None, limit=10)] == [ids[1]]
    assert [r.id for r in list_runs(database=None, before=ids[2], limit=1)] == [ids[1]]


def test_the_last_partial_run_is_the_unresolved_one():
    """Until it is resolved."""
    run, _ = runs.create_run(a_new_run())
    runs.move(run.id, to=RunState.PARTIAL, expected={RunState.QUEUED})
    assert unresolved_runs() == {"default": run.id}
    runs.move(run.id, to=RunState.RESOLVED, expected={RunState.PARTIAL})
    assert unresolved_runs() == {}
