"""Tests of which process delivers, and of processes that are killed or receivers that are
down."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections

from migration_route import signals
from migration_route.conf import route_settings
from migration_route.core.enums import RunState
from migration_route.execution.launchers.process import log_path, start
from migration_route.execution.recovery.reaper import reap
from migration_route.ledger import outbox, runs
from migration_route.ledger.queries import find_run
from migration_route.ledger.verification import verify
from migration_route.notifications import dispatcher
from migration_route.services.notifications import deliver_due
from tests.execution.runs import Keeper, begin, carried, until
from tests.factories import a_new_run
from tests.harness.receiver import Receiver, a_free_port
from tests.notifications.conftest import SECRET

pytestmark = pytest.mark.slow

STEP = ["step_started", "step_finished"]


@pytest.fixture
def told(history, project, tell):
    """Configure these webhooks for the processes of runs as well."""

    def told(*webhooks, **more):
        tell(*webhooks, **more)
        project()

    return told


def in_order(receiver: Receiver, run: str) -> list[str]:
    """Return the events of a run, each once: an attempt may have been interrupted."""
    return list(dict.fromkeys(receiver.events(run)))


def until_told(receiver: Receiver, run: str) -> None:
    """Deliver as another process would, until the end of the run has arrived."""
    now = datetime.now(UTC)

    def look() -> bool:
        nonlocal now
        now += timedelta(minutes=1)  # after every lease and every retry delay
        deliver_due(now)
        return "run_ended" in receiver.events(run)

    receiver.until(look, "the end is told")


def started() -> subprocess.Popen[bytes]:
    """Start the process of the run that the launcher has kept."""
    assert Keeper.kept is not None
    process = start(*Keeper.kept)
    assert isinstance(process, subprocess.Popen)
    return process


def test_the_process_of_a_run_tells_it_from_beginning_to_end(history, receiver, told):
    """The process of the request sends nothing; what it has recorded is sent as well."""
    told({"url": receiver.url})
    history.table("0001_a", "made_a")
    history.table("0002_b", "made_b")
    run = carried("testapp")
    assert run.state is RunState.SUCCEEDED
    receiver.until(lambda: "run_ended" in receiver.events(run.id), "the end is told")
    events = receiver.events(run.id)
    assert events == ["run_requested", "run_started", *STEP, *STEP, "run_ended"]
    assert receiver.received[-1].message["run"]["state"] == "succeeded"
    (backlog,) = outbox.backlogs([route_settings().webhooks[0].name])
    assert (backlog.pending, backlog.given_up) == (0, 0)
    assert log_path(run.id) is None


@pytest.mark.parametrize("how", ["hang", 500, "close", "down"])
def test_a_run_ends_as_ever_when_nobody_takes_its_messages(history, told, how):
    """The receiver is down for the whole run, and up later: everything arrives, in
    order."""
    history.table("0001_a", "made_a")
    name = "the team"
    if how == "down":
        told({"url": f"http://127.0.0.1:{a_free_port()}/", "name": name})
        run = carried("testapp")
    else:
        with Receiver(lambda _: how) as bad:
            told({"url": bad.url, "name": name, "timeout": "500ms"})
            run = carried("testapp")
            assert set(bad.events()) == {"run_requested"}
    assert run.state is RunState.SUCCEEDED
    assert verify().intact
    with Receiver() as receiver:
        told({"url": receiver.url, "name": name})
        until_told(receiver, run.id)
        events = receiver.events(run.id)
    assert events == ["run_requested", "run_started", *STEP, "run_ended"]


def test_a_process_that_is_killed_between_record_and_message_loses_nothing(
    history, receiver, told, settings, project
):
    """kill -9 while the receiver delays the first message: a later process sends the rest,
    and the message in flight arrives twice at most."""
    told({"url": receiver.url, "timeout": "30s"}, LAUNCHER="tests.execution.runs.Keeper")
    history.table("0001_a", "made_a")
    history.python("0002_b", "import time\ntime.sleep(60)")
    receiver.behaviour = lambda count: "hang" if count == 1 else 200
    run = begin("testapp")
    process = started()
    try:
        until(lambda: receiver.received, "the first message is on its way")
        until(lambda: find_run(run.id).state is RunState.RUNNING, "it runs")
        process.kill()
    finally:
        process.kill()
        process.wait(timeout=30)
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "HEARTBEAT_TIMEOUT": "1s"}
    until(lambda: not reap(find_run(run.id)).is_active, "it is looked after")
    until_told(receiver, run.id)
    counts = Counter(each.message["id"] for each in receiver.received)
    assert max(counts.values()) == 2
    assert sum(count - 1 for count in counts.values()) == 1
    events = in_order(receiver, run.id)
    assert events[:2] == ["run_requested", "run_started"]
    assert events[-1] == "run_ended"
    assert "run_lost" in events


def test_what_no_run_tells_is_told_by_a_process_that_ends(history, receiver, told):
    """As where a plan needs approval: there is no process of a run then."""
    told({"url": receiver.url}, LAUNCHER="process")
    run, _ = runs.create_run(a_new_run())
    assert signals.settle(30)
    runs.move(run.id, to=RunState.EXPIRED, expected={RunState.QUEUED})
    receiver.until(lambda: "run_ended" in receiver.events(run.id), "it is told")
    assert receiver.events(run.id) == ["run_requested", "run_ended"]
    until(lambda: log_path(f"deliver-{os.getpid()}") is None, "that process is gone")


def test_what_strangers_do_starts_no_process(history, receiver, told, monkeypatch):
    from migration_route.core.enums import Action
    from migration_route.ledger.entries import Draft, write
    from migration_route.services import notifications

    told({"url": receiver.url}, LAUNCHER="process")
    monkeypatch.setattr(notifications, "spawn", None)
    write(Draft(action=Action.DENIED), patience=1)
    assert signals.settle(10)
    assert deliver_due() is None
    assert receiver.events() == ["denied"]


def test_neither_secret_nor_address_is_anywhere(history, receiver, told, caplog):
    """Not on the ledger, not in the tables, not in the output or log of processes; also
    when a migration prints its settings."""
    receiver.behaviour = lambda count: 500 if count == 1 else 200
    told({"url": receiver.url})
    history.python(
        "0001_a",
        "from django.conf import settings\n"
        "print(settings.MIGRATION_ROUTE['WEBHOOKS'])\n"
        "raise ValueError(repr(settings.MIGRATION_ROUTE['WEBHOOKS']))",
    )
    run = carried("testapp")
    assert run.state in {RunState.FAILED, RunState.PARTIAL}
    until_told(receiver, run.id)
    caplog.set_level("DEBUG")
    said = caplog.text + repr(route_settings()) + repr(run)
    said += "".join(each.body.decode() + str(each.headers) for each in receiver.received)
    if (words := log_path(run.id)) is not None:
        said += words.read_text()
    with connections["default"].cursor() as cursor:
        for table in ("entry", "event", "run", "outbox", "delivery"):
            cursor.execute(f"SELECT * FROM migration_route_{table}")
            said += repr(cursor.fetchall())
    assert "ValueError" in said
    assert SECRET not in said
    assert "in-the-address" not in said


def test_a_receiver_of_signals_in_the_process_of_a_run_cannot_hold_it_up(
    history, receiver, told, settings, project, monkeypatch
):
    """The project's own receivers hang and raise; the run and its messages are not
    affected."""
    told({"url": receiver.url})
    settings.INSTALLED_APPS = [
        *settings.INSTALLED_APPS,
        "tests.notifications.bad_receivers",
    ]
    monkeypatch.setenv("BAD_RECEIVERS", "yes")
    project()
    history.table("0001_a", "made_a")
    run = carried("testapp")
    assert run.state is RunState.SUCCEEDED
    until_told(receiver, run.id)
    assert in_order(receiver, run.id) == [
        "run_requested",
        "run_started",
        *STEP,
        "run_ended",
    ]


def test_a_run_that_is_told_to_end_is_told(history, receiver, told):
    told({"url": receiver.url}, LAUNCHER="tests.execution.runs.Keeper")
    history.python("0001_a", "import time\ntime.sleep(60)")
    begin("testapp")
    assert Keeper.kept is not None
    run = Keeper.kept[1]
    process = started()
    try:
        until(lambda: find_run(run.id).state is RunState.RUNNING, "it runs")
        # The time to deliver at the end is short: the process must be ready to.
        receiver.until(lambda: "run_started" in receiver.events(run.id), "it is told")
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    finally:
        process.kill()
        process.wait(timeout=30)
    assert receiver.events(run.id)[-1] == "run_ended"
    assert dispatcher.deliver_due() is None
