"""Tests of status, readiness, runs, cancel and resolve."""

from __future__ import annotations

import time

import pytest
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.core.enums import RunState, Scope
from migration_route.core.errors import (
    Forbidden,
    InvalidRequest,
    InvalidState,
    UnknownDatabase,
    UnknownRun,
)
from migration_route.ledger import runs
from migration_route.ledger import runs as ledger_runs
from migration_route.ledger.queries import list_entries
from migration_route.services import runs as services_runs
from migration_route.services.control import cancel
from migration_route.services.resolve import resolve
from migration_route.services.runs import ready, status
from tests.factories import a_new_run, an_actor, at_once, vendor

pytestmark = pytest.mark.usefixtures("database")


def a_run(state: RunState = RunState.QUEUED, database: str = "default"):
    """Return a run in this state."""
    run, _ = runs.create_run(a_new_run(database=database))
    if state is RunState.QUEUED:
        return run
    return ledger_runs.move(run.id, to=state, expected={RunState.QUEUED})


def of(alias: str):
    """Return the status of one database."""
    return next(found for found in status(an_actor()) if found.database == alias)


def test_status_tells_what_is_pending_where(history):
    """Names, counts and whether the ledger is installed."""
    history.table("0001_a", "made_a")
    found = of("default")
    assert (found.pending, found.reachable, found.vendor) == (
        ("testapp.0001_a",),
        True,
        vendor(),
    )
    assert found.applied > 10
    assert (found.ledger_installed, of("other").ledger_installed) == (True, False)


def test_status_tells_who_is_at_work_and_what_is_unresolved():
    """Each for its own database."""
    active, partial = a_run(), a_run(RunState.PARTIAL, "other")
    assert (of("default").active_run, of("default").active_state) == (active.id, "queued")
    assert (of("other").unresolved_run, of("other").active_run) == (partial.id, None)


def test_status_shows_only_what_the_actor_may_read():
    """A token for one database does not see the other."""
    found = status(an_actor(Scope.READ, databases=frozenset({"other"})))
    assert [standing.database for standing in found] == ["other"]


def test_a_database_that_is_gone_is_one_that_does_not_answer():
    """The others are reported as usual."""
    usual = connections["other"]
    gone = usual.copy()
    nowhere = {"NAME": "/nonexistent/x.sqlite3"} if vendor() == "sqlite" else {"PORT": "1"}
    gone.settings_dict = {**gone.settings_dict, **nowhere}
    connections["other"] = gone
    try:
        found = {standing.database: standing for standing in status(an_actor())}
        is_ready = ready()
    finally:
        connections["other"] = usual
    assert not found["other"].reachable
    assert found["other"].problem is not None
    assert found["other"].problem.code == "database_unavailable"
    assert found["default"].reachable
    assert not is_ready


def test_broken_files_are_a_problem_of_the_status_not_its_end(history):
    """The status reports the error."""
    (history.folder / "0001_a.py").write_text("this is not Python")
    assert of("default").problem.code == "broken_migrations"
    assert not ready()


def test_an_empty_database_has_a_status(empty_database):
    """Everything is pending, nothing applied, no ledger."""
    found = of(empty_database)
    assert (found.reachable, found.applied, found.ledger_installed) == (True, 0, False)
    assert found.pending
    assert not ready()


def test_ready_when_nothing_is_pending(history, settings):
    """For all databases; migrations that are ahead of the code count only where
    configured."""
    for alias in ("default", "other"):
        MigrationRecorder(connections[alias]).record_applied("testapp", "0001_a")
    try:
        path = history.table("0001_a", "made_a")
        assert ready()
        path.unlink()
        assert ready()
        settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "READY_WHEN_AHEAD": False}
        assert not ready()
        settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "READY_WHEN_AHEAD": True}
        history.last = None
        history.table("0001_a", "made_a")
        history.table("0002_b", "made_b")
        assert not ready()
    finally:
        MigrationRecorder(connections["other"]).record_unapplied("testapp", "0001_a")


@pytest.mark.parametrize(
    "run", ["", "x", "0" * 31, "G" * 32, "0" * 33, "../../etc/passwd", "\0"]
)
def test_what_is_no_id_is_an_invalid_request(run):
    """No query is sent for it."""
    with pytest.raises(InvalidRequest):
        services_runs.show(run, an_actor())


def test_a_run_that_is_not_there_is_unknown():
    """Also with other runs on the ledger."""
    a_run()
    with pytest.raises(UnknownRun):
        services_runs.show("0" * 32, an_actor())


def test_runs_of_other_databases_are_not_shown():
    """Neither in the list nor alone, nor can they be cancelled."""
    here, there = a_run(), a_run(database="other")
    actor = an_actor(databases=frozenset({"other"}))
    assert [run.id for run in services_runs.list_all(actor)] == [there.id]
    with pytest.raises(Forbidden):
        services_runs.show(here.id, actor)
    with pytest.raises(Forbidden):
        services_runs.list_all(actor, database="default")
    with pytest.raises(Forbidden):
        cancel(here.id, actor, reason="")
    with pytest.raises(UnknownDatabase):
        services_runs.list_all(an_actor(), database="nowhere")


def test_waiting_ends_when_the_run_does():
    """Long before the given time."""
    run = a_run()

    def work(position: int):
        if position:
            time.sleep(0.3)
            return cancel(run.id, an_actor(), reason="")
        return services_runs.wait(run.id, an_actor(), seconds=30)

    start = time.monotonic()
    waited, _ = at_once(2, work)
    assert waited.state is RunState.CANCELLED
    assert time.monotonic() - start < 10


def test_waiting_ends_when_the_time_is_over():
    """It returns the run as it is."""
    run = a_run()
    start = time.monotonic()
    assert services_runs.wait(run.id, an_actor(), seconds=0.2).state is RunState.QUEUED
    assert 0.2 <= time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("state", "to"),
    [
        (RunState.QUEUED, RunState.CANCELLED),
        (RunState.AWAITING_APPROVAL, RunState.CANCELLED),
        (RunState.WAITING, RunState.CANCELLING),
        (RunState.RUNNING, RunState.CANCELLING),
        (RunState.PAUSED, RunState.CANCELLING),
        (RunState.CANCELLING, RunState.CANCELLING),
    ],
)
def test_a_run_is_cancelled_at_once_or_before_its_next_step(state, to):
    """One that has not started ends here; a running one is requested to stop."""
    found = cancel(a_run(state).id, an_actor(), reason="enough")
    assert found.state is to
    assert found.is_active is (to is RunState.CANCELLING)


@pytest.mark.parametrize("state", [RunState.SUCCEEDED, RunState.FAILED, RunState.PARTIAL])
def test_a_run_that_has_ended_cannot_be_cancelled(state):
    """The error names its state, and the attempt is recorded."""
    run = a_run(state)
    with pytest.raises(InvalidState, match=state):
        cancel(run.id, an_actor(), reason="")
    assert list_entries(before=None, limit=1)[0].action == "refused"


def test_cancelling_needs_the_right_to_operate():
    """The right to apply does not include it."""
    with pytest.raises(Forbidden):
        cancel(a_run().id, an_actor(Scope.APPLY), reason="")


def test_only_a_partial_run_can_be_resolved_by_a_person_with_a_reason():
    """Each of the three is required."""
    run = a_run(RunState.PARTIAL)
    with pytest.raises(InvalidRequest, match="needs a reason"):
        resolve(run.id, an_actor(), reason="  ")
    with pytest.raises(Forbidden):
        resolve(run.id, an_actor(Scope.OPERATE, Scope.APPLY), reason="mended")
    found = resolve(run.id, an_actor(Scope.RESOLVE), reason="mended")
    assert (found.state, found.outcome) == (RunState.RESOLVED, "resolved")
    entry = list_entries(before=None, limit=1)[0]
    assert (entry.action, entry.facts["reason"]) == ("resolved", "mended")
    with pytest.raises(InvalidState):
        resolve(run.id, an_actor(), reason="again")


def test_happenings_end_with_the_run():
    """More may come while it is active."""
    run = a_run()
    assert not services_runs.events(run.id, an_actor()).ended
    cancel(run.id, an_actor(), reason="")
    found = services_runs.events(run.id, an_actor())
    assert (found.ended, found.events, found.last) == (True, (), 0)
    assert services_runs.events(run.id, an_actor(), after=5).last == 5
