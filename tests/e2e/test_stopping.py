"""Tests of cancelling, pausing and forcing a run. Scenarios D5, D6 and E4."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.harness import processes
from tests.harness.client import Client, expect, expect_problem
from tests.harness.deadlines import until
from tests.harness.migrations import (
    RUN,
    WRITE_THREE,
    WRITTEN,
    column,
    migration,
    running,
)
from tests.harness.pairs import on, on_each_once, on_every_pair
from tests.harness.project import Options

SOON = 6.0
"""Seconds, on a machine under load, for what should take less than three."""

LONG_STATEMENT = {
    "postgres": "SELECT pg_sleep(30)",
    "mariadb": "SELECT SLEEP(30)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
    "WHERE i < 100000000) SELECT COUNT(*) FROM n",
}


def slow(vendor: str, *before: str, atomic: bool = True, **words: str) -> str:
    """Return a migration whose last statement takes half a minute."""
    statement = f'migrations.RunSQL("{LONG_STATEMENT[vendor]}")'
    return migration(*before, statement, atomic=atomic, **words)


def stop(client: Client, run: str, **more: Any) -> Any:
    """Cancel a run."""
    body = {"reason": "enough", **more}
    return expect(client.call("POST", f"runs/{run}/cancel", json=body), 200)


def ask(client: Client, run: str, verb: str) -> Any:
    """Send another request about a run."""
    body = {"reason": "the walk wants it"}
    return expect(client.call("POST", f"runs/{run}/{verb}", json=body), 200)


def await_statement(client: Client, run: str) -> None:
    """Wait until the long statement is running."""
    until(
        lambda: any(e["kind"] == "statement_running" for e in client.events(run)),
        seconds=30,
        what="a statement is at work",
    )


def supervisor_of(run: str) -> int:
    """Return the pid of the supervisor."""

    def look() -> int | None:
        found = [
            int(entry.name)
            for entry in Path("/proc").glob("[0-9]*")
            if f" run {run}" in processes.command_line(int(entry.name))
        ]
        parents = [pid for pid in found if processes.children(pid) & set(found)]
        return parents[0] if parents else None

    return until(look, seconds=20, what="the supervisor and its worker are there")


def worker_of(run: str) -> int:
    """Return the pid of the worker."""
    (pid,) = processes.children(supervisor_of(run))
    return pid


@on_every_pair
def test_e4_a_cancel_reaches_a_statement(build, pair):
    """Cancelled during a statement, the run ends within seconds, rolled back where the
    database can, and the site is unchanged."""
    site = build(pair, {"0002_slow": slow(pair.vendor, RUN, body=WRITE_THREE)})
    boss = site.client("operator")
    run = boss.run(boss.plan())
    await_statement(boss, run["id"])
    asked = time.monotonic()
    assert stop(boss, run["id"])["state"] == "cancelling"
    ended = boss.wait_for_end(run["id"], seconds=SOON)
    assert time.monotonic() - asked < SOON
    if site.database.transactional_ddl:
        assert (ended["state"], ended["outcome"]) == ("cancelled", "cancelled")
        assert ended["steps"][0]["state"] == "failed"
        assert site.names() == []
    else:
        assert ended["state"] == "partial"
        assert ended["steps"][0]["state"] == "partial"
        assert site.names() == WRITTEN
    assert site.applied() == ["0001_initial"]
    assert boss.http.get("/pid/").status_code == 200
    assert boss.get("ledger/verify")["intact"]
    site.project.add_migrations({"0002_slow": column("sku")})
    if ended["state"] == "cancelled":
        assert boss.apply()["state"] == "succeeded"


@on_each_once
def test_a_cancel_reaches_a_migration_that_computes(build, pair):
    """It executes no statement: Python is interrupted, and the step rolled back."""
    body = WRITE_THREE + 'print("computing")\nwhile True:\n    time.sleep(0.01)'
    site = build(pair, {"0002_busy": running(body)})
    boss = site.client("operator")
    run = boss.run(boss.plan())
    until(lambda: "computing" in boss.printed(run["id"]), seconds=30, what="it is at work")
    stop(boss, run["id"])
    ended = boss.wait_for_end(run["id"], seconds=SOON)
    assert (ended["state"], ended["steps"][0]["state"]) == ("cancelled", "failed")
    for error in (ended["error"], ended["steps"][0]["error"]):
        assert error["type"] == "Cancelled"
        assert "operator" in error["message"]
        assert "KeyboardInterrupt" not in str(error)
    assert site.names() == []


@on_each_once
def test_a_cancelled_step_that_is_not_rolled_back_is_partial(build, pair):
    """Its writes stay, and the run is partial instead of cancelled; the plan says so in
    advance."""
    source = slow(pair.vendor, RUN, body=WRITE_THREE, atomic=False)
    site = build(pair, {"0002_slow": source})
    boss = site.client("operator")
    plan = boss.plan()
    assert plan["steps"][0]["rolls_back"] is False
    run = boss.run(plan)
    await_statement(boss, run["id"])
    stop(boss, run["id"])
    ended = boss.wait_for_end(run["id"], seconds=SOON)
    assert (ended["state"], ended["steps"][0]["state"]) == ("partial", "partial")
    assert site.names() == WRITTEN


@on_each_once
def test_a_run_is_held_before_its_next_step_and_resumed(build, pair):
    """The current step completes; the next one waits for a user, with heartbeats."""
    site = build(
        pair,
        {
            "0002_first": running(WRITE_THREE + 'pass_gate("first")'),
            "0003_second": column("sku", after="0002_first"),
        },
        options=Options(migration_route={"HEARTBEAT_TIMEOUT": "3s"}),
    )
    boss = site.client("operator")
    run = boss.run(boss.plan())
    site.project.await_gate("first")
    assert ask(boss, run["id"], "pause")["control_request"] == "pause"
    assert ask(boss, run["id"], "pause")["state"] == "running"
    site.project.open_gate("first")
    held = until(
        lambda: (found := boss.get(f"runs/{run['id']}"))["state"] == "paused" and found,
        seconds=20,
        what="the run is held",
    )
    assert held["waiting"]["reason"] == "paused"
    assert [step["state"] for step in held["steps"]] == ["applied", "not_started"]
    assert held["control_request"] is None
    time.sleep(4)  # longer than the heartbeat timeout: the run is still alive
    assert boss.get(f"runs/{run['id']}")["state"] == "paused"
    expect_problem(site.client("ci").ask_for_run(boss.plan()), 409, "active_run")
    assert not site.has_column("sku")
    assert ask(boss, run["id"], "resume")["state"] == "running"
    assert boss.wait_for_end(run["id"], seconds=20)["state"] == "succeeded"
    assert site.has_column("sku")
    answer = boss.call("POST", f"runs/{run['id']}/resume", json={"reason": "again"})
    expect_problem(answer, 409, "invalid_state")
    actions = [entry["action"] for entry in boss.entries()]
    assert actions.count("pause_requested") == 1
    assert actions.count("resumed") == 1
    assert boss.get("ledger/verify")["intact"]


@on_each_once
def test_a_hold_that_has_not_come_about_is_taken_back(build, pair):
    """The next step then starts without a pause."""
    site = build(
        pair,
        {
            "0002_first": running('pass_gate("first")'),
            "0003_second": column("sku", after="0002_first"),
        },
    )
    boss = site.client("operator")
    run = boss.run(boss.plan())
    site.project.await_gate("first")
    ask(boss, run["id"], "pause")
    assert ask(boss, run["id"], "resume")["control_request"] is None
    answer = boss.call("POST", f"runs/{run['id']}/resume", json={})
    expect_problem(answer, 409, "invalid_state")
    site.project.open_gate("first")
    assert boss.wait_for_end(run["id"])["state"] == "succeeded"


@on_each_once
def test_a_held_run_is_cancelled(build, pair):
    """It stops while it is paused."""
    site = build(
        pair,
        {
            "0002_first": running('pass_gate("first")'),
            "0003_second": column("sku", after="0002_first"),
        },
    )
    boss = site.client("operator")
    run = boss.run(boss.plan())
    site.project.await_gate("first")
    ask(boss, run["id"], "pause")
    site.project.open_gate("first")
    until(
        lambda: boss.get(f"runs/{run['id']}")["state"] == "paused",
        seconds=20,
        what="the run is held",
    )
    stop(boss, run["id"])
    ended = boss.wait_for_end(run["id"], seconds=SOON)
    assert ended["state"] == "cancelled"
    assert [step["state"] for step in ended["steps"]] == ["applied", "not_started"]


def kill(*pids: int) -> None:
    """Kill processes as the out-of-memory killer does."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


ORPHANS = {
    "postgres": (
        "SET client_connection_check_interval = 0",
        "INSERT INTO shop_item (name) SELECT 'orphan' FROM pg_sleep(25)",
    ),
    # Long, and in no call that would notice a closed connection.
    "mariadb": (
        "INSERT INTO shop_item (name) "
        "SELECT 'orphan' FROM seq_1_to_100000000 "
        "WHERE seq = 100000000 OR SHA2(REPEAT(seq, 2000), 512) = 'x'",
    ),
}


def leaving_an_orphan(vendor: str, *, atomic: bool) -> str:
    """Return a migration whose statement continues after its client has disconnected."""
    statements = [f'migrations.RunSQL("{sql}")' for sql in ORPHANS[vendor]]
    return migration(*statements, atomic=atomic)


on_servers = on("postgres-sync", "mariadb-sync")


@on_servers
@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "autocommit"])
def test_d5_a_session_that_a_killed_run_left_blocks_new_runs(build, pair, atomic):
    """While it lives a new run is refused with its pid, long before the heartbeat timeout;
    a cancel ends it, its statement never takes effect, and the next run can proceed."""
    site = build(pair, {"0002_long": leaving_an_orphan(pair.vendor, atomic=atomic)})
    boss = site.client("operator")
    plan = boss.plan()
    run = boss.run(plan)
    await_statement(boss, run["id"])
    supervisor = supervisor_of(run["id"])
    kill(supervisor, *processes.children(supervisor))
    problem = expect_problem(boss.ask_for_run(plan), 409, "orphaned_session")
    assert problem["run"] == run["id"]
    pid = problem["facts"]["pid"]
    assert "shop_item" in problem["facts"]["query"]
    assert problem["facts"]["since"]
    sessions = {
        "postgres": "SELECT pid FROM pg_stat_activity WHERE "
        f"application_name = 'migration-route:{run['id']}'",
        "mariadb": f"SELECT id FROM information_schema.processlist WHERE id = {pid}",
    }[pair.vendor]
    assert site.rows(sessions) == [(pid,)]
    lost = boss.get(f"runs/{run['id']}")
    assert lost["state"] == "lost"
    assert lost["waiting"]["reason"] == "orphaned_session"
    assert lost["waiting"]["session"]["pid"] == pid
    answer = site.client("ci").call("POST", f"runs/{run['id']}/cancel", json={})
    expect_problem(answer, 403, "forbidden")
    ended = stop(boss, run["id"])
    assert ended["ended"], ended
    assert site.rows(sessions) == []
    rolls_back = plan["steps"][0]["rolls_back"]
    assert ended["state"] == ("cancelled" if rolls_back else "partial")
    assert site.names() == []
    assert site.applied() == ["0001_initial"]
    site.project.add_migrations({"0002_long": column("sku")})
    if rolls_back:
        assert boss.apply()["state"] == "succeeded"
    assert boss.get("ledger/verify")["intact"]


@on_servers
def test_b6_a_worker_that_is_killed_alone_is_outlived_by_its_session(build, pair):
    """Its supervisor waits for that session before it reports how the run ended."""
    site = build(pair, {"0002_long": leaving_an_orphan(pair.vendor, atomic=True)})
    boss = site.client("operator")
    plan = boss.plan()
    run = boss.run(plan)
    await_statement(boss, run["id"])
    kill(worker_of(run["id"]))
    until(
        lambda: boss.get(f"runs/{run['id']}")["state"] == "lost",
        seconds=20,
        what="the session is seen",
    )
    expect_problem(boss.ask_for_run(plan), 409, "orphaned_session")
    ended = stop(boss, run["id"])
    assert ended["state"] == ("cancelled" if site.database.transactional_ddl else "partial")
    assert site.names() == []


@on_each_once
def test_force_is_for_people_and_needs_no_supervisor_that_answers(build, pair):
    """The supervisor is stopped; the web process kills it, and the run is concluded."""
    site = build(pair, {"0002_slow": slow(pair.vendor, RUN, body=WRITE_THREE)})
    operator, boss = site.client("operator"), site.person("boss")
    run = operator.run(operator.plan())
    await_statement(operator, run["id"])
    supervisor, worker = supervisor_of(run["id"]), worker_of(run["id"])
    path = f"runs/{run['id']}/cancel"
    answer = operator.call("POST", path, json={"reason": "now", "force": True})
    expect_problem(answer, 403, "forbidden")
    os.kill(supervisor, signal.SIGSTOP)
    try:
        ended = stop(boss, run["id"], force=True)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor, signal.SIGCONT)
    assert ended["ended"], ended
    rolled_back = site.database.transactional_ddl
    assert ended["state"] == ("cancelled" if rolled_back else "partial")
    assert site.names() == ([] if rolled_back else WRITTEN)
    assert not processes.command_line(worker)
    (entry,) = [e for e in operator.entries() if e["action"] == "force_requested"]
    assert entry["actor"] == {"kind": "user", "name": "boss"}
    assert entry["facts"]["reason"] == "enough"
    assert operator.get("ledger/verify")["intact"]


TWO_STEPS = {
    "0002_first": running(WRITE_THREE + 'pass_gate("first")'),
    "0003_second": column("sku", after="0002_first"),
}


@on_each_once
def test_d6_a_server_that_is_told_to_end_does_not_take_the_run_along(build, pair):
    """SIGTERM to the whole process group of the server: the run ends as it would have."""
    site = build(pair, TWO_STEPS)
    run = site.client("ci").run(site.client("ci").plan())
    site.project.await_gate("first")
    assert site.server.process is not None
    os.killpg(site.server.process.pid, signal.SIGTERM)
    site.server.process.wait(30)
    site.project.open_gate("first")
    again = site.client("ci", server=site.serve())
    ended = again.wait_for_end(run["id"])
    assert ended["state"] == "succeeded"
    assert site.names() == WRITTEN
    assert site.has_column("sku")


@on("sqlite-sync", "postgres-sync", "mariadb-sync")
def test_d6_the_same_with_a_request_that_waits_for_the_run(build, pair):
    """With the launcher `inline` the server is told to stop while its request waits."""
    site = build(pair, TWO_STEPS, options=Options(migration_route={"LAUNCHER": "inline"}))
    ci = site.client("ci")
    plan = ci.plan()
    with contextlib.suppress(Exception):  # the request gets no response
        ci.ask_for_run(plan, timeout=0.5)
    site.project.await_gate("first")
    assert site.server.process is not None
    os.killpg(site.server.process.pid, signal.SIGTERM)
    site.project.open_gate("first")
    site.server.process.wait(60)
    again = site.client("ci", server=site.serve())
    (run,) = again.get("runs")["runs"]
    assert again.wait_for_end(run["id"])["state"] == "succeeded"


@on_each_once
def test_b5_sigterm_to_everything_ends_a_run_between_two_steps(build, pair):
    """As when a control group is stopped: supervisor, worker and server all receive it. The
    current step completes, the next one does not start."""
    site = build(pair, TWO_STEPS)
    run = site.client("ci").run(site.client("ci").plan())
    site.project.await_gate("first")
    supervisor = supervisor_of(run["id"])
    for pid in processes.living_in(site.project.folder):
        os.kill(pid, signal.SIGTERM)
    site.project.open_gate("first")
    until(lambda: not processes.command_line(supervisor), seconds=20, what="it has ended")
    again = site.client("ci", server=site.serve())
    ended = again.get(f"runs/{run['id']}")
    assert (ended["state"], ended["outcome"]) == ("failed", "interrupted")
    assert ended["error"]["type"] == "Interrupted"
    assert "SIGTERM" in ended["error"]["message"]
    assert [step["state"] for step in ended["steps"]] == ["applied", "not_started"]
    assert site.names() == WRITTEN
    assert site.applied() == ["0001_initial", "0002_first"]
    assert again.apply()["state"] == "succeeded"
    assert again.get("ledger/verify")["intact"]


@on_each_once
def test_sigterm_gives_a_last_step_its_time(build, pair):
    """It ends within the grace period: nothing was interrupted."""
    site = build(pair, {"0002_first": running(WRITE_THREE + 'pass_gate("first")')})
    ci = site.client("ci")
    run = ci.run(ci.plan())
    site.project.await_gate("first")
    os.kill(supervisor_of(run["id"]), signal.SIGTERM)
    time.sleep(1)
    assert ci.get(f"runs/{run['id']}")["state"] == "running"
    site.project.open_gate("first")
    assert ci.wait_for_end(run["id"], seconds=SOON)["state"] == "succeeded"


@on_each_once
def test_sigterm_does_not_wait_for_a_long_statement(build, pair):
    """After the grace period the statement is cancelled, before a SIGKILL would follow."""
    site = build(pair, {"0002_slow": slow(pair.vendor, RUN, body=WRITE_THREE)})
    ci = site.client("ci")
    run = ci.run(ci.plan())
    await_statement(ci, run["id"])
    supervisor = supervisor_of(run["id"])
    os.kill(supervisor, signal.SIGTERM)
    ended = ci.wait_for_end(run["id"], seconds=14)
    rolled_back = site.database.transactional_ddl
    assert ended["state"] == ("failed" if rolled_back else "partial")
    if rolled_back:
        assert ended["outcome"] == "interrupted"
        assert "SIGTERM" in ended["error"]["message"]
    assert site.names() == ([] if rolled_back else WRITTEN)
    until(lambda: not processes.command_line(supervisor), seconds=10, what="it has ended")
