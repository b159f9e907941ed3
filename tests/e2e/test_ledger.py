"""Tests that events are recorded on the ledger, and that tampering is detected."""

from __future__ import annotations

from tests.harness.client import expect_problem
from tests.harness.migrations import RUN, column, migration
from tests.harness.pairs import on, on_each_once


@on_each_once
def test_a_failed_run_stays_on_the_ledger(build, pair):
    """Who requested it, why, from where and how it ended remains after the rollback."""
    site = build(pair, {"0002_breaks": migration(RUN, body='raise ValueError("no")')})
    ci = site.client("ci")
    run = ci.apply()
    entries = [entry for entry in ci.entries() if entry["run"] == run["id"]]
    actions = [entry["action"] for entry in entries]
    assert actions[0] == "run_requested"
    assert {"step_started", "step_finished", "run_state"} <= set(actions)
    assert entries[0]["actor"] == {"kind": "token", "name": "ci"}
    assert entries[0]["address"] == "127.0.0.1"
    assert entries[0]["facts"]["reason"] == "a walk"
    assert entries[-1]["facts"]["to"] == "failed"
    sequences = [entry["sequence"] for entry in ci.entries()]
    assert sequences == list(range(1, len(sequences) + 1))


@on("sqlite-uvicorn")
def test_a_refusal_is_an_entry(build, pair):
    """A refused run is recorded with its code."""
    site = build(pair, {"0002_sku": column("sku")})
    ci = site.client("ci")
    plan = ci.plan()
    ci.wait_for_end(ci.run(plan)["id"])
    expect_problem(ci.ask_for_run(plan), 409, "plan_changed")
    refused = [entry for entry in ci.entries() if entry["action"] == "refused"]
    assert len(refused) == 1
    assert refused[0]["facts"]["code"] == "plan_changed"


@on("mariadb-gthread")
def test_an_entry_that_was_changed_is_found(build, pair):
    """A row changed directly in the database breaks the chain at that row."""
    site = build(pair, {"0002_sku": column("sku")})
    ci = site.client("ci")
    ci.apply()
    verdict = ci.get("ledger/verify")
    assert verdict["intact"]
    assert verdict["entries"] == len(ci.entries())
    site.execute("UPDATE migration_route_entry SET action = 'denied' WHERE sequence = 2")
    verdict = ci.get("ledger/verify")
    assert not verdict["intact"]
    assert verdict["broken"] == 2
    answer = site.project.manage("migration_route", "ledger", "verify", check=False)
    assert answer.returncode != 0
