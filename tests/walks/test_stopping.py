"""Is a run stopped, held and forced when somebody says so? Scenarios D5, D6 and E4."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

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
from tests.harness.pairs import on_each_once, on_every_pair
from tests.harness.project import Options

SOON = 6.0
"""Seconds for what should take less than three, on a machine under load."""

LONG_STATEMENT = {
    "postgres": "SELECT pg_sleep(30)",
    "mariadb": "SELECT SLEEP(30)",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n "
    "WHERE i < 100000000) SELECT COUNT(*) FROM n",
}


def slow(vendor: str, *before: str, atomic: bool = True, **words: str) -> str:
    """Write a migration that is in a statement for half a minute, after others."""
    statement = f'migrations.RunSQL("{LONG_STATEMENT[vendor]}")'
    return migration(*before, statement, atomic=atomic, **words)


def stop(client: Client, run: str, **more: Any) -> Any:
    """Ask a run to stop."""
    body = {"reason": "enough", **more}
    return expect(client.call("POST", f"runs/{run}/cancel", json=body), 200)


def ask(client: Client, run: str, verb: str) -> Any:
    """Ask something else of a run."""
    body = {"reason": "the walk wants it"}
    return expect(client.call("POST", f"runs/{run}/{verb}", json=body), 200)


def await_statement(client: Client, run: str) -> None:
    """Wait until the long statement has been seen to run."""
    until(
        lambda: any(e["kind"] == "statement_running" for e in client.events(run)),
        seconds=30,
        what="a statement is at work",
    )


def supervisor_of(run: str) -> int:
    """Give the pid of the process that watches over a run."""

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
    """Give the pid of the process that migrates."""
    (pid,) = processes.children(supervisor_of(run))
    return pid


@on_every_pair
def test_e4_a_cancel_reaches_a_statement(build, pair):
    """Cancelled in mid-statement, the run ends within seconds, rolled back where the
    database can, and the site is as before."""
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
    """It is in no statement at all: Python is interrupted, and the step rolled back."""
    body = WRITE_THREE + 'print("computing")\nwhile True:\n    time.sleep(0.01)'
    site = build(pair, {"0002_busy": running(body)})
    boss = site.client("operator")
    run = boss.run(boss.plan())
    until(lambda: "computing" in boss.printed(run["id"]), seconds=30, what="it is at work")
    stop(boss, run["id"])
    ended = boss.wait_for_end(run["id"], seconds=SOON)
    assert (ended["state"], ended["steps"][0]["state"]) == ("cancelled", "failed")
    assert "KeyboardInterrupt" in ended["steps"][0]["error"]["type"]
    assert site.names() == []


@on_each_once
def test_a_cancelled_step_that_is_not_rolled_back_is_partial(build, pair):
    """What it has written stays, and the run says so instead of calling itself
    cancelled; a plan says it before."""
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
    """The step under way comes to its end; the next one waits for a person, while the
    heart beats."""
    site = build(
        pair,
        {
            "0002_first": running(WRITE_THREE + 'pass_gate("first")'),
            "0003_second": column("sku", after="0002_first"),
        },
        options=Options(migration_route={"LEASE": "3s"}),
    )
    boss = site.client("operator")
    run = boss.run(boss.plan())
    site.project.await_gate("first")
    assert ask(boss, run["id"], "hold")["asked"] == "hold"
    assert ask(boss, run["id"], "hold")["state"] == "running"
    site.project.open_gate("first")
    held = until(
        lambda: (found := boss.get(f"runs/{run['id']}"))["state"] == "held" and found,
        seconds=20,
        what="the run is held",
    )
    assert held["waiting"]["reason"] == "held"
    assert [step["state"] for step in held["steps"]] == ["applied", "not_started"]
    assert held["asked"] is None
    time.sleep(4)  # longer than a lease: nobody takes it for dead
    assert boss.get(f"runs/{run['id']}")["state"] == "held"
    expect_problem(site.client("ci").ask_for_run(boss.plan()), 409, "active_run")
    assert not site.has_column("sku")
    assert ask(boss, run["id"], "resume")["state"] == "running"
    assert boss.wait_for_end(run["id"], seconds=20)["state"] == "succeeded"
    assert site.has_column("sku")
    answer = boss.call("POST", f"runs/{run['id']}/resume", json={"reason": "again"})
    expect_problem(answer, 409, "not_in_this_state")
    actions = [entry["action"] for entry in boss.entries()]
    assert actions.count("hold_requested") == 1
    assert actions.count("resumed") == 1
    assert boss.get("ledger/verify")["intact"]


@on_each_once
def test_a_hold_that_has_not_come_about_is_taken_back(build, pair):
    """Nobody waits at the next step then."""
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
    ask(boss, run["id"], "hold")
    assert ask(boss, run["id"], "resume")["asked"] is None
    answer = boss.call("POST", f"runs/{run['id']}/resume", json={})
    expect_problem(answer, 409, "not_in_this_state")
    site.project.open_gate("first")
    assert boss.wait_for_end(run["id"])["state"] == "succeeded"


@on_each_once
def test_a_held_run_is_cancelled(build, pair):
    """It stops where it waits."""
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
    ask(boss, run["id"], "hold")
    site.project.open_gate("first")
    until(
        lambda: boss.get(f"runs/{run['id']}")["state"] == "held",
        seconds=20,
        what="the run is held",
    )
    stop(boss, run["id"])
    ended = boss.wait_for_end(run["id"], seconds=SOON)
    assert ended["state"] == "cancelled"
    assert [step["state"] for step in ended["steps"]] == ["applied", "not_started"]
