"""Tests of runs that have not started and whose process has ended."""

from __future__ import annotations

import os
import socket

import pytest

from migration_route.core import clock
from migration_route.core.enums import RunState, WaitingReason
from migration_route.core.errors import LaunchFailed
from migration_route.execution.launchers.task_queue import execute_run
from migration_route.execution.recovery.reaper import reap, reap_now
from migration_route.ledger import claims, runs
from migration_route.ledger.queries import find_run
from migration_route.ledger.runs import WaitInfo
from migration_route.models import Run
from migration_route.planning import sources
from migration_route.services.control import cancel, resume
from migration_route.services.queue_worker import claimable_runs
from tests.factories import a_new_run, an_actor
from tests.launchers import Queue, Remembering

pytestmark = pytest.mark.usefixtures("database")

LATER = "2999-12-01T01:00:00.000000Z"
LONG_AGO = "2020-01-01T00:00:00.000000Z"


@pytest.fixture
def launcher(settings):
    """Return a function that sets the launcher."""
    Remembering.started.clear()
    Queue.tasks.clear()

    def use(name):
        settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": name}

    return use


def a_run(*, until=LATER, **columns):
    """Return a run that waits for its window, with some columns changed."""
    waiting = until and WaitInfo(reason=WaitingReason.WINDOW, until=until, facts={})
    new = a_new_run(waiting=waiting or None, build=sources.build())
    run, _ = runs.create_run(new)
    Run.objects.filter(pk=run.id).update(**columns)
    return find_run(run.id)


def of_another_host(**more):
    """Return the columns of a run whose process on another host sends no heartbeat."""
    return {
        "claimed_by": "theirs",
        "host": "elsewhere",
        "supervisor_pid": 1,
        "heartbeat_at": LONG_AGO,
        **more,
    }


def test_a_dead_process_is_replaced_once(launcher):
    """The second check finds the new process starting."""
    launcher("tests.launchers.Remembering")
    run = a_run(**of_another_host())
    assert reap(run).state is RunState.WAITING
    assert reap(run).state is RunState.WAITING  # another check of the same dead process
    assert reap(find_run(run.id)).state is RunState.WAITING
    assert Remembering.started == [run.id]


def test_a_process_that_lives_is_left_alone(launcher):
    """By its heartbeat on another host, by its pid on this one."""
    launcher("tests.launchers.Remembering")
    run = a_run(**of_another_host(heartbeat_at=clock.now()))
    assert reap(run) == run
    cancel(run.id, an_actor(), reason="")
    here = {"host": socket.gethostname(), "supervisor_pid": os.getpid()}
    gone = a_run(**of_another_host(**here, heartbeat_at=clock.now()))
    reap(gone)  # this process is not that of a run: the pid was reused
    assert Remembering.started == [gone.id]


def test_a_run_whose_processes_never_begin_ends_after_its_opening(launcher):
    """Before its window there is time to fix the cause."""
    launcher("tests.launchers.Remembering")
    run = a_run()
    for _ in range(7):
        Run.objects.filter(pk=run.id).update(heartbeat_at=LONG_AGO)
        assert reap(find_run(run.id)).state is RunState.WAITING
    Run.objects.filter(pk=run.id).update(heartbeat_at=LONG_AGO, waiting_until=LONG_AGO)
    ended = reap(find_run(run.id))
    assert (ended.state, ended.outcome) == (RunState.FAILED, "launch_failed")
    assert len(Remembering.started) == 7


@pytest.mark.parametrize("name", ["worker", "tests.launchers.Queue"])
def test_a_queued_run_that_nobody_takes_waits_for_a_carrier(launcher, name):
    """For any time: it is never failed."""
    launcher(name)
    run = a_run(until="", heartbeat_at=LONG_AGO)
    shown = reap(run)
    assert (shown.state, shown.waiting_reason) == (RunState.QUEUED, "no_worker")
    assert find_run(run.id).waiting_reason == ""
    assert Queue.tasks == []


def test_a_waiting_run_says_that_nobody_has_come_when_its_time_is_over(launcher):
    """Before that it reports what it waits for."""
    launcher("worker")
    run = a_run(heartbeat_at=LONG_AGO)
    assert reap(run).waiting_reason == "window"
    Run.objects.filter(pk=run.id).update(waiting_until=LONG_AGO)
    assert reap(find_run(run.id)).waiting_reason == "no_worker"


def test_a_queue_gets_a_run_again_whose_process_is_gone(launcher):
    """Not before its window, where the queue can delay it."""
    launcher("tests.launchers.Queue")
    run = a_run(**of_another_host())
    reap(run)
    reap(find_run(run.id))
    assert Queue.tasks == [(run.id, clock.parse_time(LATER))]


def test_a_worker_takes_what_is_due(launcher):
    """Queued, or waiting until a time that has passed, and unclaimed; its own build
    first."""
    launcher("worker")
    run = a_run()
    assert claimable_runs(()) == []
    Run.objects.filter(pk=run.id).update(waiting_until=LONG_AGO)
    assert [found.id for found in claimable_runs(())] == [run.id]
    assert claimable_runs(("other",)) == []
    Run.objects.filter(pk=run.id).update(build="another")
    assert claimable_runs(()) == []
    Run.objects.filter(pk=run.id).update(created_at=LONG_AGO)
    assert [found.id for found in claimable_runs(())] == [run.id]
    claims.claim(run.id, "one", host="here", pid=None)
    assert claimable_runs(()) == []


def test_a_task_that_is_delivered_late_starts_nothing(launcher):
    """Another process has claimed the run, or it has ended."""
    launcher("tests.launchers.Queue")
    run = a_run(until="")
    claims.claim(run.id, "one", host="here", pid=None)
    execute_run(run.id)
    cancel(run.id, an_actor(), reason="")
    execute_run(run.id)
    assert find_run(run.id).state is RunState.CANCELLED


def test_a_broker_that_is_away_is_told_without_its_words(launcher):
    """The message of a driver may contain hosts and secrets."""
    launcher("tests.launchers.BrokenQueue")
    run = a_run(until="")
    from tests.launchers import BrokenQueue

    with pytest.raises(LaunchFailed, match="ConnectionRefusedError") as caught:
        BrokenQueue().start_again(run)
    assert run.id not in str(caught.value)


def test_a_person_opens_a_run_that_waits(launcher):
    """A queue gets it at once; the ledger and the row record the override."""
    launcher("tests.launchers.Queue")
    run = a_run()
    opened = resume(run.id, an_actor(), reason="safe", force=True)
    assert opened.override_schedule
    assert opened.waits_to_begin
    assert Queue.tasks == [(run.id, None)]


def test_what_waits_to_begin_is_never_lost(launcher):
    """A forced end finds nothing to conclude."""
    launcher("worker")
    run = a_run(**of_another_host())
    assert reap_now(run).state is RunState.WAITING
    assert cancel(run.id, an_actor(), reason="", force=True).state is RunState.CANCELLED
